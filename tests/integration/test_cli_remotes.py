"""`standfast backup push`, `fetch` and `remotes`, as a person calls them; no PostgreSQL is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_support import CommandLine, own_surroundings
from tests.integration.remote_node import Node


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        monkeypatch.setenv("BACKUP_RECIPIENTS", "none")
        yield


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


def test_copies_are_sent_shown_and_brought_back(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One remote is well and one is not: the first gets the backup, the exit code is that of the second, and no secret
    of either is shown; an empty state directory fetches it."""
    (tmp_path / "near").mkdir()
    dead = "sftp://bot:geheim@127.0.0.1:1/srv?name=dead&timeout_s=2"
    setting = f"{tmp_path / 'near'} {dead}"
    monkeypatch.setenv("BACKUP_REMOTES", setting)
    backup = Node(tmp_path / "state", setting).backup(0.1)
    pushed = standfast("backup", "push")
    assert pushed.code == 29
    assert f"near: sent {backup.name}" in pushed.out
    assert "dead: failed: the remote dead cannot be reached" in pushed.out
    told = standfast("backup", "push", "--json")
    assert [one["held"] for one in told.document["remotes"]] == [1, 0]
    shown = standfast("backup", "remotes", "--json")
    assert [one["state"] for one in json.loads(shown.out)] == ["up to date", "down"]
    config = standfast("config")
    assert "geheim" not in "".join(one.out + one.err for one in (pushed, told, shown, config))
    assert standfast("backup", "push", "--remote", "near").code == 0
    monkeypatch.setenv("STANDFAST_STATE_DIR", str(tmp_path / "other"))
    fetched = standfast("backup", "fetch", "latest", "--from", "near", "--json")
    assert fetched.document["path"] == str(tmp_path / "other" / "backups" / backup.name)
    assert standfast("backup", "fetch", backup.name, "--from", "dead").code == 29


def test_without_a_remote_nothing_is_sent(standfast: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands say which setting is missing; a malformed one is told at once, without its text."""
    assert standfast("backup", "push").code == 2
    assert "BACKUP_REMOTES" in standfast("backup", "remotes").out
    monkeypatch.setenv("BACKUP_REMOTES", "ftp://bot:geheim@host/x")
    for command in (("backup", "push"), ("backup", "remotes"), ("config",)):
        refused = standfast(*command)
        assert refused.code == 3
        assert "number 1 of BACKUP_REMOTES" in refused.err
        assert "geheim" not in refused.out + refused.err
