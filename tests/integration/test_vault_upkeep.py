"""What the vault looks after by itself: the grace period, the size of its file, who else speaks for its node."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import GraceExpired
from standfast.postgres import leases
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.vault import upkeep
from standfast.vault.clock import SystemClock
from tests.integration.vaults import ACME, QUICK, Node, node
from tests.support import Proxy, made_up_creds, until

BOLT = Company("bolt")
SWEEPING = replace(QUICK, sweep_interval_s=0.0)


class LaterClock(SystemClock):
    """The machine's clock, `later_s` further on."""

    later_s = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.later_s


@pytest.fixture(autouse=True)
def _ticks_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TICK_S", 0.05)


@pytest.fixture
async def paired(database: Database) -> Database:
    """A database with the companies acme and bolt."""
    store = PostgresAuthStore(database)
    for number, company in enumerate((ACME, BOLT)):
        await store.install(company, made_up_creds(bytes([number] * 32)), {"session": {"first": b"0"}})
    return database


@pytest.fixture
def far(tcp_options: DatabaseOptions, proxy: Proxy) -> DatabaseOptions:
    return replace(tcp_options, port=proxy.port)


async def session(database: Database, company: Company, key_id: str) -> bytes | None:
    return (await PostgresAuthStore(database).get_keys(company, "session", [key_id])).get(key_id)


async def turns(count: int = 4) -> None:
    await asyncio.sleep(count * upkeep.TICK_S)


async def test_the_grace_period_is_told_half_used_and_over_once_each(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """In each outage anew; a session that is open stays open, and one that is not is refused with age and limit."""
    clock = LaterClock()
    async with node(tmp_path, far, replace(QUICK, grace_s=30.0), clock=clock) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
        await one.in_state("outage")
        await turns()
        assert one.alerts.names() == ["outage_began"]
        clock.later_s = 20.0
        await until(lambda: len(one.alerts.taken) == 2)
        await turns()
        clock.later_s = 40.0
        await until(lambda: len(one.alerts.taken) == 3)
        await turns()
        assert one.alerts.names() == ["outage_began", "grace_half_used", "grace_expired"]
        assert one.alerts.taken[1].facts["age_s"] == pytest.approx(20, abs=3)
        assert one.alerts.taken[2].facts["companies"] == 1
        await one.vault.set_keys(ACME, {"session": {"open": b"1"}})
        one.vault.release(ACME)
        with pytest.raises(GraceExpired, match="grace period of 30 s") as refused:
            await one.vault.open(ACME)
        assert refused.value.facts["age_s"] == pytest.approx(40, abs=3)
        await proxy.listen()
        await one.in_state("online")
        assert await session(paired, ACME, "open") == b"1"
        await proxy.close()
        await one.in_state("outage")
        clock.later_s = 60.0
        await until(lambda: len(one.alerts.named("grace_half_used")) == 2)


async def test_what_whatsapp_ended_leaves_the_replica_once_postgres_has_it(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """A company that was logged out is swept, but nothing that is journaled; one that is not dead stays."""
    async with node(tmp_path, far, SWEEPING, is_dead=lambda company: company == BOLT) as one:
        for company in (ACME, BOLT):
            await one.vault.open(company)
        await one.in_state("online")
        await turns()
        assert in_replica(one) == {ACME, BOLT}, "it is open"
        await proxy.close()
        await one.in_state("outage")
        for company in (ACME, BOLT):
            await one.vault.set_keys(company, {"session": {"last": b"1"}})
            one.vault.release(company)
        await turns()
        assert in_replica(one) == {ACME, BOLT}, "PostgreSQL lacks a write of it"
        await proxy.listen()
        await one.in_state("online")
        await until(lambda: in_replica(one) == {ACME})
        for company in (ACME, BOLT):
            assert await session(paired, company, "last") == b"1"


async def test_above_the_limit_what_has_not_been_in_use_for_longest_goes_first(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """Only what PostgreSQL has wholly and nobody has open; it is there again when it is opened again."""
    async with node(tmp_path, far, replace(SWEEPING, max_bytes=2**40)) as one:
        for company in (BOLT, ACME):
            await one.vault.open(company)
            await one.vault.set_keys(company, {"session": {"last": b"1"}})
            one.vault.release(company)
            await until(lambda: not one.vault.holdings())
        await turns()
        assert in_replica(one) == {ACME, BOLT}
        sizes = iter([1, 0])
        limit = one.vault.options.max_bytes
        one.vault.replica.size_bytes = lambda: limit + next(sizes, 0)  # type: ignore[method-assign]
        await until(lambda: in_replica(one) == {ACME})
        await turns()
        assert in_replica(one) == {ACME}
        assert await one.vault.open(BOLT) is not None
        assert await one.vault.get_keys(BOLT, "session", ["first", "last"]) == {"first": b"0", "last": b"1"}
        one.vault.replica.size_bytes = lambda: 2 * limit  # type: ignore[method-assign]
        await until(lambda: in_replica(one) == {BOLT})
        await turns()
        assert in_replica(one) == {BOLT}, "it is open"


async def revisions(database: Database) -> int:
    """Grows with each heartbeat by another process than the one before."""
    found: int = (await database.fetch(Statement("test.revision", "select revision from standfast_nodes")))[
        0
    ][0]
    return found


async def reached(database: Database, revision: int) -> bool:
    return await revisions(database) >= revision


def in_replica(one: Node) -> set[Company]:
    return {record.company for record in one.vault.replica.companies()}


async def test_a_copied_state_directory_is_told_to_both(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes speak for one node: the later one gets the company, and each says once what is wrong."""
    async with node(tmp_path / "one", database_options) as one:
        await one.vault.open(ACME)
        await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    async with node(tmp_path / "one", database_options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        monkeypatch.setattr(leases, "_PROCESS", str(uuid.uuid4()))
        async with node(tmp_path / "copy", database_options) as other:
            assert await other.vault.open(ACME) is not None
            await until(lambda: bool(one.alerts.named("node_shared") and other.alerts.named("node_shared")))
            (alert,) = one.alerts.named("node_shared")
            assert alert.level == "critical"
            assert "state directory was copied" in alert.message
            await other.vault.set_keys(ACME, {"session": {"x": b"2"}})
            await until(lambda: bool(one.alerts.named("fenced")))
            revision = await revisions(paired)
            await until(lambda: reached(paired, revision + 3))
            assert len(one.alerts.named("node_shared")) == 1
    assert await session(paired, ACME, "x") == b"2"
