"""`standfast drill list` and `show`, without a service, a database or a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.drill.kept import KeptDrills
from standfast.drill.record import Criterion
from standfast.settings import Settings
from tests.cli_support import CommandLine, own_surroundings
from tests.drills import BEGAN, made_up


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    with own_surroundings(monkeypatch, tmp_path):
        yield CommandLine(capsys)


def test_list_tells_of_drills_and_of_recovering(cli: CommandLine, tmp_path: Path) -> None:
    """Newest first, within 80 columns; with --json without the moments, which 'show' has."""
    drills = KeptDrills(Settings(state_dir=tmp_path))
    drills.keep(made_up())
    drills.keep(made_up(id="later", kind="fast", started_at=BEGAN + 60))
    shown = cli("--state-dir", tmp_path, "drill", "list")
    assert shown.code == 0
    assert shown.out.index("later") < shown.out.index(made_up().id)
    assert "never measured" in shown.out
    assert max(len(line.rstrip()) for line in shown.out.splitlines()) <= 80
    document = cli("--state-dir", tmp_path, "drill", "list", "--json").document
    assert [one["id"] for one in document["drills"]] == ["later", made_up().id]
    assert "moments" not in document["drills"][0]
    assert document["last_measured"][0]["rto_s"] == 1.42


def test_without_a_drill_it_says_how_to_make_one(cli: CommandLine, tmp_path: Path) -> None:
    """An empty history is no error; to show what is not there is one."""
    listed = cli("--state-dir", tmp_path, "drill", "list")
    assert (listed.code, "standfast drill" in listed.out) == (0, True)
    missing = cli("--state-dir", tmp_path, "drill", "show")
    assert missing.code == 24
    assert "there is no drill 'latest'" in missing.err


def test_show_begins_with_the_verdict(cli: CommandLine, tmp_path: Path) -> None:
    """Then what does not hold; within 80 columns whatever the record's texts are; and it writes the reports."""
    row = made_up().performance[0]
    late = Criterion(name=row.name, target="< 1 s", actual="3.2 s " * 30, status="fail", phase=1)
    KeptDrills(Settings(state_dir=tmp_path)).keep(made_up(acceptance=[late]))
    shown = cli("--state-dir", tmp_path, "drill", "show", "--report", tmp_path / "out")
    assert shown.out.startswith("Failed: 1 of 9 criteria do not hold")
    record = shown.out[: shown.out.index("Written:")]
    assert max(len(line.rstrip()) for line in record.splitlines()) <= 80
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".json", ".html"}
    document = cli("--state-dir", tmp_path, "drill", "show", made_up().id, "--json").document
    assert (document["passed"], document["acceptance"][0]["status"]) == (False, "fail")
