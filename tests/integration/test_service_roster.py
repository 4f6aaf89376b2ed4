"""Which sessions are wanted, and whose creds are dead, while PostgreSQL comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, DatabaseUnavailable, PairingFailed
from standfast.postgres import sessions_table
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.sessions_table import Row
from standfast.postgres.store import PostgresAuthStore
from standfast.service.follower import DatabaseFollower
from standfast.service.roster import VaultRoster
from standfast.sessions.events import Event
from standfast.sessions.pool import SessionPool
from tests.integration.services import ACME, Running, running
from tests.support import Proxy, made_up_creds, until

BOLT = Company("bolt")
PAIRED = made_up_creds(registered=True, me={"id": "79990000001:1@s.whatsapp.net"}, account={})


@pytest.fixture
async def now(state: Path, proxied: DatabaseOptions) -> AsyncIterator[Running]:
    """A service whose PostgreSQL `proxy` can take away."""
    async with running(state, proxied) as started:
        await started.in_state("online")
        await started.service.roster.wanted()
        yield started


@pytest.fixture
def roster(now: Running) -> VaultRoster:
    return now.service.roster


async def away(now: Running, proxy: Proxy) -> None:
    await proxy.close()
    await now.in_state("outage")


async def rows(database: Database) -> list[Row]:
    return await sessions_table.list_rows(database)


async def test_wishes_of_an_outage_reach_postgresql_when_it_is_back(
    now: Running, roster: VaultRoster, proxy: Proxy, database: Database
) -> None:
    """They hold at once here; afterwards PostgreSQL says the same, also of a company that it did not know."""
    await roster.linked(ACME)
    assert await rows(database) == [Row(ACME, True, False)]
    await away(now, proxy)
    await roster.want(ACME, False)
    await roster.want(BOLT, True)
    assert await roster.wanted() == [BOLT]
    assert await rows(database) == [Row(ACME, True, False)]
    await proxy.listen()
    await now.in_state("online")
    await until(lambda: _says(database, [Row(ACME, False, False), Row(BOLT, True, False)]))


async def _says(database: Database, expected: list[Row]) -> bool:
    return await rows(database) == expected


async def test_wishes_survive_a_restart_in_an_outage(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, database: Database
) -> None:
    """What was wanted in one outage is wanted by the next process in the same one, and reaches PostgreSQL from it."""
    async with running(state, proxied) as first:
        await first.in_state("online")
        await away(first, proxy)
        await first.service.roster.want(ACME, True)
        await first.service.roster.unlinked(BOLT)
    async with running(state, proxied) as second:
        assert await second.service.roster.wanted() == [ACME]
        assert second.service.roster.is_dead(BOLT)
        await proxy.listen()
        await second.in_state("online")
        await until(lambda: _says(database, [Row(ACME, True, False), Row(BOLT, False, True)]))


async def test_postgresql_is_the_truth_for_what_was_not_changed_here(
    now: Running, roster: VaultRoster, proxy: Proxy, database: Database
) -> None:
    """Another node's changes are taken over at the next look; a row that somebody removed is wanted no more."""
    await roster.want(ACME, True)
    await roster.want(BOLT, True)
    await sessions_table.set_wanted(database, ACME, False)
    await sessions_table.remove(database, BOLT)
    await sessions_table.set_wanted(database, Company("coral"), True)
    assert await roster.wanted() == ["coral"]
    await away(now, proxy)
    assert await roster.wanted() == ["coral"]


async def test_sessions_that_only_postgresql_knows_start_when_it_comes(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, database: Database
) -> None:
    """A service that began without it asks it as soon as it answers; what is in backoff is tried at once."""
    await sessions_table.set_wanted(database, ACME, True)
    await proxy.close()
    async with running(state, proxied) as now:
        service = now.service
        pool = SessionPool(service.roster, service.bus, service.mailbox)
        follower = DatabaseFollower(service.vault, service.roster, service._foundation.schema, pool)
        following = asyncio.create_task(follower.run())
        assert await pool.start_wanted() == 0
        await now.in_state("outage")
        await proxy.listen()
        await until(lambda: (session := pool.session(ACME)) is not None and session.wanted)
        following.cancel()
        await pool.close()


async def test_rows_that_a_restore_lost_are_put_back(
    now: Running, roster: VaultRoster, database: Database, store: PostgresAuthStore
) -> None:
    """PostgreSQL was restored from before the pairing: this node holds the company, so its wish counts."""
    await store.install(ACME, PAIRED, {})
    assert await now.service.vault.open(ACME)
    await roster.linked(ACME)
    await database.fetch(Statement("restore", "delete from standfast_sessions"))
    assert await roster.wanted() == [ACME]
    assert await rows(database) == [Row(ACME, True, False)]


async def test_pairing_is_refused_in_an_outage(
    now: Running, roster: VaultRoster, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """Only PostgreSQL knows that there is no other identity; what the replica knows can be started."""
    await store.install(ACME, PAIRED, {})
    assert await now.service.vault.open(ACME)
    await away(now, proxy)
    for call in (roster.identity(ACME), roster.prepare_pairing(ACME), roster.identity(BOLT)):
        with pytest.raises(DatabaseUnavailable, match="nothing is paired until it is back") as refused:
            await call
        assert "Start PostgreSQL" in refused.value.next_step
    await roster.check_known(ACME)
    with pytest.raises(DatabaseUnavailable, match="does not know bolt"):
        await roster.check_known(BOLT)


async def test_only_dead_state_makes_room_for_a_pairing(
    now: Running, roster: VaultRoster, store: PostgresAuthStore, state: Path
) -> None:
    """A paired company that is alive is refused; a dead one is archived with what only the journal had, and removed."""
    vault = now.service.vault
    with pytest.raises(CompanyUnknown):
        await roster.check_known(ACME)
    await store.install(ACME, PAIRED, {"session": {"a": b"1"}})
    await vault.open(ACME)
    with pytest.raises(PairingFailed, match="paired already"):
        await roster.prepare_pairing(ACME)
    await vault.set_keys(ACME, {"session": {"latest": b"2"}})
    await roster.unlinked(ACME)
    vault.release(ACME)
    await roster.prepare_pairing(ACME)
    (folder,) = (state / "archive").iterdir()
    assert {"creds.json", "session-a.json", "session-latest.json"} <= {file.name for file in folder.iterdir()}
    assert await store.snapshot(ACME) is None
    assert vault.replica.record(ACME) is None
    assert await vault.open(ACME, pair=True) is None


async def test_a_logout_in_an_outage_is_archived_when_postgresql_is_back(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """Nothing is removed before it is archived, and nothing is forgotten over a restart in between."""
    await store.install(ACME, PAIRED, {"session": {"a": b"1"}})
    async with running(state, proxied) as first:
        await first.in_state("online")
        await first.service.vault.open(ACME)
        await away(first, proxy)
        await first.service.roster.unlinked(ACME)
        first.service.bus.publish(Event(ACME, "state", {"company": ACME, "state": "logged_out"}))
        await asyncio.sleep(0.1)
        assert not (state / "archive").exists()
        assert first.service.vault.replica.record(ACME) is not None
    async with running(state, proxied) as second:
        await proxy.listen()
        await second.in_state("online")
        await until(lambda: second.service.vault.replica.record(ACME) is None)
        (folder,) = (state / "archive").iterdir()
        assert {"creds.json", "session-a.json"} <= {file.name for file in folder.iterdir()}
        assert await store.snapshot(ACME) is None
