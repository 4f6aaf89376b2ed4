"""The way back from files to PostgreSQL, with a running service and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import EmergencyRefused
from standfast.jobs.emergency.mode import ModeFile
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from tests.integration.restoring import lose, said
from tests.integration.returns import looked, on_files, returned, sessions, stopped_on_files, writing
from tests.integration.services import ACME, running, settings_of
from tests.support import Proxy, made_up_creds, until

BOLT = Company("bolt")
KEYS = {"session": {"a": b'{"n":1}', "gone": b'{"n":2}'}, "pre-key": {"7": b'{"k":7}'}}


@pytest.fixture
async def stored(store: PostgresAuthStore) -> PostgresAuthStore:
    await store.install(ACME, made_up_creds(), KEYS)
    return store


async def test_a_session_writes_through_the_way_back_and_loses_nothing(
    state: Path, database_options: DatabaseOptions, stored: PostgresAuthStore
) -> None:
    """PostgreSQL has every acknowledged write in the end, deletions too, and nothing before the way back."""
    settings = settings_of(state, database_options)
    async with running(state, database_options, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        await now.service.vault.set_keys(ACME, {"session": {"gone": None}})
        async with writing(now) as ledger:
            await until(lambda: len(ledger.written) >= 20)
            assert "gone" in await sessions(stored)
            report = await returned(settings)
            assert report.ok
            assert report.writes_lost == 0
            before = len(ledger.written)
            await until(lambda: len(ledger.written) > min(before, 49))
        assert now.service.vault.outage.state == "online"
        await until(lambda: not now.service.vault.held.all()[0].pending)
        expected = {key: json.loads(value) for key, value in ledger.written.items()}
        assert await sessions(stored) == {**expected, "a": {"n": 1}}
        assert now.service.files.mode is None
        assert not (state / "emergency.json").exists()


async def test_a_database_that_was_lost_becomes_the_one_that_was_left(
    state: Path, database_options: DatabaseOptions, stored: PostgresAuthStore
) -> None:
    """Its tables are made, it takes the identity of the lost one, and the vault goes on with it."""
    settings = settings_of(state, database_options)
    async with running(state, database_options, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        identity = now.service.vault.replica.database
        lose(database_options)
        outlook = await looked(settings)
        assert (outlook.identity, [one.verdict for one in outlook.companies]) == (identity, ["files newer"])
        assert said(database_options, "select to_regclass('whatsapp_auth')") == [(None,)]
        report = await returned(settings)
        assert report.ok
        assert now.service.vault.replica.database == identity
    assert said(database_options, "select id::text from standfast_identity") == [(identity,)]
    assert await sessions(stored) == {"a": {"n": 1}, "gone": {"n": 2}}


async def test_a_database_that_is_away_hung_or_read_only_changes_nothing(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, stored: PostgresAuthStore, database: Database
) -> None:
    """Refused within some seconds with what to do, and the node stays on files."""
    settings = settings_of(state, proxied)
    async with running(state, proxied, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        proxy.flowing.clear()
        with pytest.raises(EmergencyRefused, match="still away"):
            await looked(settings)
        await proxy.close()
        with pytest.raises(EmergencyRefused, match="still away"):
            await looked(settings)
        proxy.flowing.set()
        await proxy.listen()
        ((name,),) = await database.fetch(Statement("test.name", "select current_database()"))
        await database.fetch(
            Statement("test.read_only", f'alter database "{name}" set default_transaction_read_only = on')
        )
        with pytest.raises(EmergencyRefused, match="takes no writes"):
            await looked(settings)
        assert now.service.files.mode is not None
        assert now.service.files.mode.stage == "files"


async def test_without_a_service_the_state_directory_goes_back(
    state: Path, database_options: DatabaseOptions, stored: PostgresAuthStore
) -> None:
    """The same, with nobody running; the next service stands on PostgreSQL."""
    settings = settings_of(state, database_options)
    await stopped_on_files(state, database_options)
    report = await returned(settings)
    assert report.ok
    assert (await sessions(stored))["ours"] == {"n": 9}
    assert ModeFile(state).read() is None
    with pytest.raises(EmergencyRefused, match="does not stand on files"):
        await looked(settings)
