"""Over to files with PostgreSQL and the vault's file gone: from the change log, or a backup, as a state of the past."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standfast.authstate.creds import parse_creds
from standfast.authstate.multifile import import_folder
from standfast.errors import EmergencyFailed
from standfast.jobs.backup.run import run_backup
from standfast.jobs.emergency.mode import ModeFile
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.service.job_context import command_context
from tests.integration.services import ACME, running, settings_of
from tests.integration.test_emergency_to_files import BOLT, CREDS, over
from tests.support import Proxy

KEYS = {
    "session": {"a": b'{"n":1}'},
    "sender-key-memory": {"g": b"{}"},
    "identity-key": {"a": b'{"type":"Buffer","data":"BQ=="}'},
}


async def test_what_only_the_past_has_goes_on_without_its_ratchets(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore, database: Database
) -> None:
    """The change log is asked first, then the newest backup; each company's source is named, no ratchet goes back, and
    the service opens them."""
    for company in (ACME, BOLT):
        await store.install(company, CREDS, KEYS)
    settings = settings_of(state, proxied, change_log_segment_s=0.2, schedule="off")
    async with command_context(settings, "test") as context:
        await run_backup(context)
    async with running(state, proxied, change_log_segment_s=0.2, schedule="off") as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
        await now.service.vault.set_keys(
            ACME, {"identity-key": {"later": b'{"type":"Buffer","data":"BQ=="}'}}
        )
    await proxy.close()
    for file in (state / "vault").glob("vault.db*"):
        file.unlink()
    report = await over(settings)
    sources = {one.company: one.source.split()[0] for one in report.companies}
    assert sources == {ACME: "change", BOLT: "backup"}
    assert report.writes_lost is None
    root = settings.emergency_directory
    assert (
        import_folder(root / ACME).keys.keys() == import_folder(root / BOLT).keys.keys() == {"identity-key"}
    )
    assert "later" in import_folder(root / ACME).keys["identity-key"]
    issued = parse_creds(import_folder(root / BOLT).creds).next_pre_key_id
    assert issued > parse_creds(CREDS).next_pre_key_id + 1_000
    async with running(state, proxied, schedule="off") as now:
        for company in (ACME, BOLT):
            creds = await now.service.vault.open(company)
            assert creds is not None
            assert json.loads(creds)["nextPreKeyId"] > 1_000


async def test_a_state_of_the_past_counts_only_once_the_switch_stands(
    state: Path,
    proxied: DatabaseOptions,
    proxy: Proxy,
    store: PostgresAuthStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the switch fails, the vault knows no more than before."""
    await store.install(ACME, CREDS, KEYS)
    settings = settings_of(state, proxied, schedule="off")
    async with command_context(settings, "test") as context:
        await run_backup(context)
    await proxy.close()
    monkeypatch.setattr(ModeFile, "write", _refuse)
    with pytest.raises(EmergencyFailed):
        await over(settings)
    monkeypatch.undo()
    report = await over(settings)
    assert [one.source.split()[0] for one in report.companies] == ["backup"]


def _refuse(_file: ModeFile, _mode: object) -> None:
    raise EmergencyFailed("no room")
