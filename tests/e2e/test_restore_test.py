"""A backup proven by what it is for: real Baileys logs in from what was restored."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from standfast.errors import SettingsError
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.restore_test import restore_test
from standfast.jobs.context import JobContext
from standfast.service.restore_login import SimulatedLogin, confined
from tests.backups import backed_up, job_context
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
    options = line.service.database.options
    async with job_context(options, tmp_path) as (context, told):
        backup = await backed_up(context)
        test = await restore_test(context, backup, SimulatedLogin(context.settings))
        assert test.ok, test.message
        assert "acme logged in" in test.message
        assert test.rows > 800
        assert test.companies == 1
        assert set(test.steps) == {"server", "load", "compare", "keys", "login"}
        assert "restore_test_done" in told.names
        assert _left(context) == [backup.name]
        await _fails_with_swapped_keys(context, backup)


async def _fails_with_swapped_keys(context: JobContext, former: Backup) -> None:
    with psycopg.connect(context.database.options.to_conninfo()) as connection:
        connection.execute(SWAPPED)
    backup = await backed_up(context)
    assert backup.name != former.name
    test = await restore_test(context, backup, None)
    assert not test.ok
    assert "noiseKey is no pair" in test.message


def _left(context: JobContext) -> list[str]:
    root = context.settings.backup_directory
    return sorted(path.name for path in root.iterdir() if path.is_dir())


@pytest.mark.parametrize(
    "url", ["", "wss://web.whatsapp.com/ws/chat", "ws://192.0.2.1/ws", "wss://127.0.0.1/ws"]
)
def test_a_restore_test_connects_to_nothing_but_this_machine(url: str) -> None:
    """A host is started only with the address of a simulator here, and confined to it."""
    with pytest.raises(SettingsError):
        confined({"STANDFAST_WA_URL": url})
    assert confined({"STANDFAST_WA_URL": "ws://127.0.0.1:1/ws"})["STANDFAST_WA_CONFINED"] == "1"
