"""A service that starts, and goes on, without PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.alert import LoggedAlerts
from standfast.cli.standing import vault_line
from standfast.errors import AuthStateCorrupt, DatabaseRejected, DatabaseUnavailable
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.service.schema import SchemaKeeper
from standfast.state_dir import StateDirectory
from tests.integration.services import ACME, running
from tests.support import Proxy, made_up_creds, until


async def has_key(store: PostgresAuthStore, key_id: str) -> bool:
    return key_id in await store.get_keys(ACME, "session", [key_id])


async def filled(state: Path, options: DatabaseOptions, store: PostgresAuthStore) -> None:
    """A company that a service had open before."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b'{"n":1}'}})
    async with running(state, options) as before:
        assert await before.service.vault.open(ACME)


async def test_a_start_without_database_or_replica_goes_on_by_itself(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """It says that nothing can open yet, refuses what is asked, and opens as soon as PostgreSQL answers."""
    await store.install(ACME, made_up_creds(), {})
    await proxy.close()
    async with running(state, proxied) as now:
        (alert,) = now.alerts("waiting_for_database")
        assert "no session can open yet" in alert["message"]
        with pytest.raises(DatabaseUnavailable, match="no whole replica of acme"):
            await now.service.vault.open(ACME)
        await now.in_state("outage")
        await proxy.listen()
        await now.in_state("online")
        assert await now.service.vault.open(ACME)


@pytest.mark.parametrize("how", ["refused", "hung"])
async def test_a_start_from_the_replica_does_not_wait(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore, how: str
) -> None:
    """With PostgreSQL away the company is open within two seconds; what is written then reaches PostgreSQL later."""
    await filled(state, proxied, store)
    if how == "refused":
        await proxy.close()
    else:
        proxy.flowing.clear()
    began = time.monotonic()
    async with running(state, proxied) as now:
        vault = now.service.vault
        creds = await vault.open(ACME)
        assert creds
        assert json.loads(creds) == json.loads(made_up_creds())
        assert time.monotonic() - began < 3
        assert await vault.get_keys(ACME, "session", ["a"]) == {"a": b'{"n": 1}'}
        await vault.set_keys(ACME, {"session": {"b": b'{"n":2}'}})
        await now.in_state("outage")
        document = await now.service.status()
        assert document["database"]["state"] == "unavailable"
        assert document["vault"]["journal"]["batches"] == 1
        if how == "refused":
            await proxy.listen()
        else:
            proxy.flowing.set()
        await now.in_state("online")
        await until(lambda: has_key(store, "b"))
    assert [alert["tags"]["company_id"] for alert in now.alerts("cached_credentials")] == ["acme"]


async def test_a_refusal_ends_a_start_only_without_replica(
    state: Path, tcp_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """A wrong password: an error of its own and nothing left behind; with a replica it runs on and says so."""
    wrong = replace(tcp_options, password="wrong-Secret-1")
    with pytest.raises(DatabaseRejected, match="password") as refused:
        async with running(state, wrong):
            pass
    assert "wrong-Secret-1" not in str(refused.value.as_wire())
    assert StateDirectory(state).holder() is None
    assert not (state / "vault").exists()
    await filled(state, tcp_options, store)
    async with running(state, wrong) as now:
        assert await now.service.vault.open(ACME)
        (alert,) = now.alerts("started_without_database")
        assert "password" in alert["message"]
        assert "wrong-Secret-1" not in str(alert)


async def test_an_empty_database_is_migrated_when_it_comes(
    state: Path, bare_database_options: DatabaseOptions, tcp_options: DatabaseOptions
) -> None:
    """The schema could not be made at the start; it is made once PostgreSQL answers."""
    assert tcp_options.host
    assert tcp_options.port
    options = replace(tcp_options, dbname=bare_database_options.dbname)
    async with Proxy.before(tcp_options.host, tcp_options.port) as proxy:
        await proxy.close()
        async with running(state, replace(options, port=proxy.port)) as now:
            await proxy.listen()
            await now.in_state("online", timeout_s=15)
            assert await now.service.vault.open(ACME, pair=True) is None


async def test_a_schema_that_is_lost_is_made_again(bare_database: Database) -> None:
    """As after a restore from an old dump: once PostgreSQL says that a table is missing, it is looked at again."""
    sink, ready = LoggedAlerts(), asyncio.Event()
    keeper = SchemaKeeper(bare_database, sink)
    keeper.on_ready = ready.set
    working = asyncio.create_task(keeper.run())
    try:
        await asyncio.wait_for(ready.wait(), 5)
        for sql in ("drop schema public cascade", "create schema public"):
            await bare_database.fetch(Statement("lose", sql))
        ready.clear()
        keeper.doubt(DatabaseUnavailable("gone", cause="refused"))
        assert keeper.is_ready
        keeper.doubt(DatabaseRejected("no table", cause="schema"))
        await asyncio.wait_for(ready.wait(), 5)
        assert await bare_database.fetch(Statement("look", "select count(*) from standfast_nodes")) == [(0,)]
    finally:
        working.cancel()


async def test_the_status_outlives_a_replica_that_cannot_be_read(
    state: Path, proxied: DatabaseOptions, store: PostgresAuthStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the file is rebuilt an operator sees what was seen last, and why it is not newer."""
    await filled(state, proxied, store)
    async with running(state, proxied) as now:
        before = (await now.service.status())["vault"]
        replica = now.service.vault.replica

        def unreadable() -> list[object]:
            raise AuthStateCorrupt("the replica is damaged and being rebuilt")

        monkeypatch.setattr(replica, "quarantined", unreadable)
        after = (await now.service.status())["vault"]
        assert "being rebuilt" in after["error"]
        assert after["node"] == before["node"]
        assert "being rebuilt" in vault_line(after).plain
