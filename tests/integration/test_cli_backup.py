"""`standfast backup run`, `list` and `show`, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.postgres.options import DatabaseOptions
from tests.backing_up import fill
from tests.cli_support import CommandLine, own_surroundings


@pytest.fixture(autouse=True)
def _surroundings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tcp_options: DatabaseOptions
) -> Iterator[None]:
    """The settings name a database with two companies."""
    fill(tcp_options, 2)
    with own_surroundings(monkeypatch, tmp_path):
        for name in ("host", "port", "user", "password", "dbname"):
            variable = "DATABASE" if name == "dbname" else name.upper()
            monkeypatch.setenv(f"POSTGRES_{variable}", str(getattr(tcp_options, name)))
        yield


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_a_backup_is_made_listed_and_shown(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is there is listed and shown without PostgreSQL, too; nothing tells the password."""
    planned = standfast("backup", "run", "--dry-run")
    assert "whatsapp_keys" in planned.out
    assert "Nothing was written." in planned.out
    assert not (tmp_path / "state" / "backups").exists()
    made = standfast("backup", "run", "--monthly", "--json")
    assert made.code == 0, made.err
    assert made.document["rows"] == 102
    assert made.document["validation"]["ok"]
    said = standfast("backup", "run", "--verbose")
    assert "102 rows of 2 companies" in said.out
    monkeypatch.setenv("POSTGRES_PORT", "1")
    listed = standfast("backup", "list", "--json").document["backups"]
    assert [one["manifest"]["companies"] for one in listed] == [2, 2]
    assert [one["state"] for one in listed] == ["good", "good"]
    assert listed[1]["name"] == made.document["name"]
    assert listed[1]["manifest"]["kinds"] == ["daily", "monthly"]
    assert made.document["name"] in standfast("backup", "list").out
    shown = standfast("backup", "show", made.document["name"])
    assert "whatsapp_keys: 100" in shown.out
    document = standfast("backup", "show", "latest", "--json").document
    assert document["manifest"]["companies"]["company-1"]["keys"] == {"session": 50}
    assert "age_s" in document


def test_what_cannot_be_is_refused_with_its_exit_code(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name that is none, no pg_dump, nothing to keep; each with what to do."""
    assert standfast("backup", "show", "20200101T000000Z").code == 24
    assert standfast("backup", "show", "../state").code == 24
    monkeypatch.setenv("STANDFAST_PG_BIN_DIR", str(tmp_path))
    refused = standfast("backup", "run", "--json")
    assert refused.code == 27
    assert "postgresql-client-18" in json.loads(refused.out)["error"]["next_step"]
    monkeypatch.setenv("BACKUP_KEEP_DAILY", "0")
    refused = standfast("backup", "run")
    assert (refused.code, "BACKUP_KEEP_DAILY" in refused.err) == (3, True)


def test_what_cannot_be_read_is_listed_as_bad(standfast: CommandLine, tmp_path: Path) -> None:
    """A manifest that is damaged, and one of a later format: neither stands for a backup, neither ends the list."""
    root = tmp_path / "state" / "backups"
    for name, text in (("20260101T000000Z", "{"), ("20260102T000000Z", '{"format": 99}')):
        (root / name).mkdir(0o700, parents=True)
        (root / name / "manifest.json").write_text(text)
    listed = standfast("backup", "list")
    assert listed.code == 0
    assert "is of format 99" in listed.out
    assert standfast("backup", "show", "20260102T000000Z").code == 26
    assert standfast("backup", "show", "latest").code == 24


def test_a_bad_backup_is_told_by_the_exit_code(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without PostgreSQL, too. What lies there is looked into, whatever is wrong with it, and the newest that is not
    bad is restored for a test. With --json there is one document."""
    name = standfast("backup", "run", "--json").document["name"]
    monkeypatch.setenv("POSTGRES_PORT", "1")
    good = standfast("backup", "validate")
    assert (good.code, f"{name}: good" in good.out) == (0, True)
    wrong = standfast("backup", "restore-test", "--json")
    assert wrong.code == 26
    assert "there is no noiseKey" in wrong.document["restore_test"]["message"]
    bad = tmp_path / "state" / "backups" / "20200101T000000Z"
    bad.mkdir()
    found = standfast("backup", "validate", "--all", "--json")
    assert (found.code, found.document["ok"]) == (26, False)
    assert [one["ok"] for one in found.document["validations"]] == [True, False]
    assert "20200101T000000Z: bad" in standfast("backup", "validate", bad.name).out
    assert standfast("backup", "validate", bad.name, "--all").code == 2
    assert standfast("backup", "validate", "20200102T000000Z").code == 24
    assert standfast("backup", "restore-test", bad.name).code == 26
    listed = standfast("backup", "list", "--json").document["backups"]
    assert [one["state"] for one in listed] == ["good", "bad"]
    assert [one["ok"] for one in listed[0]["record"]["restore_tests"]] == [False]
