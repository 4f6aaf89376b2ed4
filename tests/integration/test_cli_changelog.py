"""`standfast changelog` and `standfast restore --at` as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.jobs.restore.from_log import written
from standfast.postgres.options import DatabaseOptions
from tests.cli_support import CommandLine, own_surroundings
from tests.integration.restoring import ACME
from tests.integration.services import settings_of
from tests.integration.test_restore_at import history
from tests.support import apart


@pytest.fixture
def standfast(
    state: Path,
    database_options: DatabaseOptions,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[CommandLine]:
    with own_surroundings(monkeypatch, state.parent):
        monkeypatch.setenv("STANDFAST_STATE_DIR", str(state))
        monkeypatch.setenv("DATABASE_URL", database_options.to_conninfo())
        yield CommandLine(capsys)


def test_the_log_is_listed_verified_compacted_and_gone_back_in(
    standfast: CommandLine, state: Path, database_options: DatabaseOptions
) -> None:
    """Each command says what it found, to people and to programs; a damaged log ends with 26."""
    assert "no change log" in standfast("changelog", "list").out
    settings = settings_of(state, database_options)
    at = apart(history(settings, database_options))
    (listed,) = json.loads(standfast("changelog", "list", "--json").out)
    assert listed["companies"] == ["acme", "bolt"]
    assert "one" in standfast("changelog", "list").out
    verified = standfast("changelog", "verify", "--json")
    assert (verified.code, verified.document["problems"]) == (0, [])
    assert standfast("changelog", "compact", "--dry-run", "--json").document["dropped"] == 0
    asked = standfast("restore", "--at", written(at), "--company", ACME, "--dry-run")
    assert asked.code == 0, asked.err
    assert "rolled back" in asked.out
    done = standfast("restore", "--at", written(at), "--company", ACME, "--yes", "--json")
    assert done.code == 0, done.err
    assert done.document["ok"] is True
    unasked = standfast("restore", "--at", written(at))
    assert unasked.code == 2
    assert "--yes" in unasked.err
    segment = next((settings.backup_directory / "changes").rglob("*.seg"))
    segment.write_bytes(segment.read_bytes()[:-40])
    broken = standfast("changelog", "verify")
    assert broken.code == 26
    assert "damaged" in broken.out
    assert "unknown from" in broken.out
