"""A backup proven by what it is for: real Baileys logs in from what was restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from standfast.errors import SettingsError
from standfast.jobs.backup.restore_test import restore_test
from standfast.jobs.backup.run import run_backup
from standfast.service.restore_login import SimulatedLogin, confined
from tests.backing_up import Job, execute, job
from tests.e2e.conftest import Line, until

SWAPPED = """
update whatsapp_auth set creds = jsonb_set(creds, '{noiseKey,public}', creds #> '{signedIdentityKey,public}')
"""


async def test_a_session_logs_in_from_what_was_restored_and_not_from_creds_that_do_not_fit(
    line: Line, tmp_path: Path
) -> None:
    """It is compared, its keys are checked, Baileys opens a session from it at a simulator that never met it, and
    nothing is left of that. Creds whose keys are no pair fail the test, which says so."""
    await line.pair("acme", "79990000041")
    await until(lambda: line.service.vault.replicator.is_idle, "everything in PostgreSQL")
    given = job(tmp_path / "backups", line.service.database)
    name = (await run_backup(given.context)).name
    login = SimulatedLogin(given.context.settings)
    test = await restore_test(given.context, given.catalogue().get(name), login)
    assert test.ok, test.message
    assert "acme logged in" in test.message
    assert test.rows > 800
    assert test.companies == 1
    assert set(test.steps) == {"server", "load", "compare", "keys", "login"}
    assert "restore_test_done" in given.sink.names
    assert given.names() == [".scratch-restore-test.lock", name]
    await _fails_with_swapped_keys(given)


async def _fails_with_swapped_keys(given: Job) -> None:
    execute(given.database.options, SWAPPED)
    name = (await run_backup(given.context)).name
    test = await restore_test(given.context, given.catalogue().get(name), None)
    assert not test.ok
    assert "noiseKey is no pair" in test.message
    assert given.sink.alerts[-1].facts["next_step"].startswith("The database itself held it so")


@pytest.mark.parametrize(
    "url", ["", "wss://web.whatsapp.com/ws/chat", "ws://192.0.2.1/ws", "wss://127.0.0.1/ws"]
)
def test_a_restore_test_connects_to_nothing_but_this_machine(url: str) -> None:
    """A host is started only with the address of a simulator here, and confined to it."""
    with pytest.raises(SettingsError):
        confined({"STANDFAST_WA_URL": url})
    assert confined({"STANDFAST_WA_URL": "ws://127.0.0.1:1/ws"})["STANDFAST_WA_CONFINED"] == "1"
