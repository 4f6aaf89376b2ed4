"""Every kind of outage is noticed within seconds, and its end too: on real servers, with real faults."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from standfast.errors import DatabaseRejected
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.leases import Heartbeat, Leases
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.vault.clock import SystemClock
from standfast.vault.confirmation import Confirmation
from standfast.vault.heartbeat import HeartbeatLoop
from standfast.vault.outage import OutageClock, State
from tests.support import Proxy, until

NOTICED_S = 5.0
QUICK_S = 0.1
NODE = str(uuid.UUID(int=1))


def sql(text: str) -> Statement:
    return Statement("test", text)


def short(options: DatabaseOptions) -> DatabaseOptions:
    return replace(options, connect_timeout_s=1.2, checkout_timeout_s=1.2, statement_timeout_s=1.2)


@dataclass
class Beating:
    loop: HeartbeatLoop
    outage: OutageClock
    confirmation: Confirmation
    told: list[State]

    @property
    def cause(self) -> object:
        error = self.outage.cause
        return error.facts["cause"] if error else None

    async def becomes(self, state: State, timeout_s: float = NOTICED_S) -> None:
        assert await self.outage.wait_for({state}, timeout_s), f"{self.told}, {self.outage.cause}"

    async def returns(self) -> None:
        """It recovers soon, and is online once drained."""
        await self.becomes(State.RECOVERING)
        self.outage.drained()
        assert self.told[-1] is State.ONLINE


@contextlib.asynccontextmanager
async def beating(
    options: DatabaseOptions, directory: Path, *, interval_s: float = QUICK_S, patient: bool = False
) -> AsyncIterator[Beating]:
    """A node that is alive, and online already; `patient`: one attempt of its may take ten seconds."""
    async with Database(options if patient else short(options)) as database:
        outage, told = OutageClock(), list[State]()
        outage.changed(told.append)
        confirmation = Confirmation(directory / f"confirmation-{uuid.uuid4()}", SystemClock())
        loop = HeartbeatLoop(Leases(database), outage, confirmation, NODE, "one", 15.0, interval_s=interval_s)
        running = asyncio.create_task(loop.run())
        found = Beating(loop, outage, confirmation, told)
        try:
            await found.becomes(State.ONLINE)
            yield found
        finally:
            outage.close()
            await loop.stop()
            assert running.done()


@pytest.fixture
async def node(proxy: Proxy, tcp_options: DatabaseOptions, tmp_path: Path) -> AsyncIterator[Beating]:
    async with beating(replace(tcp_options, port=proxy.port), tmp_path) as found:
        yield found


async def test_each_heartbeat_confirms_and_renews(node: Beating, database: Database) -> None:
    """The lease in PostgreSQL runs on, and the age of the confirmation stays small."""
    alive = sql("select extract(epoch from alive_until) from standfast_nodes")
    before = (await database.fetch(alive))[0][0]
    await asyncio.sleep(3 * QUICK_S)
    assert (await database.fetch(alive))[0][0] > before
    age_s = node.confirmation.age_s()
    assert age_s is not None
    assert age_s < 1
    assert node.told == [State.ONLINE]


async def test_a_server_that_refuses(node: Beating, proxy: Proxy) -> None:
    """Connection refused is an outage in well under the time of a silent one; its return is noticed as quickly."""
    await proxy.close()
    await node.becomes(State.OUTAGE, NOTICED_S / 2)
    assert node.cause in ("refused", "reset")
    age_s = node.confirmation.age_s()
    assert age_s is not None
    await proxy.listen()
    await node.returns()
    assert node.told == [
        State.ONLINE,
        State.SUSPECT,
        State.OUTAGE,
        State.RECOVERING,
        State.ONLINE,
    ]


async def test_silent_outages(
    tcp_options: DatabaseOptions, proxy: Proxy, tmp_path: Path, own_server: EmbeddedServer
) -> None:
    """A stopped server (SIGSTOP), and a network that swallows everything, at the pace of production; also where one
    attempt takes long because several hosts are tried in turn."""
    away = replace(tcp_options, port=proxy.port)
    async with (
        beating(replace(away, statement_timeout_s=10.0), tmp_path, interval_s=1.0, patient=True) as waiting,
        beating(away, tmp_path, interval_s=1.0) as swallowed,
        beating(own_server.options, tmp_path, interval_s=1.0) as stopped,
    ):
        proxy.flowing.clear()
        with suspended(own_server):
            await asyncio.gather(*(each.becomes(State.OUTAGE) for each in (swallowed, stopped, waiting)))
            assert swallowed.cause == stopped.cause == waiting.cause == "timeout"
        proxy.flowing.set()
        await asyncio.gather(swallowed.returns(), stopped.returns(), waiting.returns())


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "server", durable=False) as server:
        async with Database(server.options) as database:
            await migrate(database)
        yield server


@contextlib.contextmanager
def suspended(server: EmbeddedServer) -> Iterator[None]:
    postmaster = psutil.Process(server.pid)
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


async def test_a_server_that_was_killed_and_starts_again(own_server: EmbeddedServer, tmp_path: Path) -> None:
    """It answers "starting up" for a while, which is no return."""
    async with beating(own_server.options, tmp_path) as node:
        await own_server.stop()
        await node.becomes(State.OUTAGE)
        await own_server.start()
        await node.returns()


async def test_a_firewall_that_forgot_the_connections(node: Beating, proxy: Proxy) -> None:
    """Half open: the old connection is dead without a word, a new one works. It is suspected and cleared."""
    proxy.freeze()
    await node.becomes(State.SUSPECT)
    await node.becomes(State.ONLINE)
    assert node.told == [State.ONLINE, State.SUSPECT, State.ONLINE]


async def test_a_server_that_only_reads(node: Beating, proxy: Proxy, database: Database) -> None:
    """A standby after a failover answers, and takes no write."""
    name = database.options.dbname
    await database.fetch(sql(f"alter database {name} set default_transaction_read_only = on"))
    await proxy.cut()
    await node.becomes(State.OUTAGE)
    assert node.cause == "read_only"
    async with database.transaction("mend", 5) as connection:
        await connection.execute("set transaction read write")
        await connection.execute(f"alter database {name} reset default_transaction_read_only")
    await node.returns()


async def test_a_password_that_was_changed(
    tcp_options: DatabaseOptions, database: Database, tmp_path: Path
) -> None:
    """A refusal is an outage like any other: sessions stand, and it ends when the account is mended."""
    role = f"node_{uuid.uuid4().hex}"
    await database.fetch(sql(f"create role {role} superuser login password 'made-up'"))
    try:
        async with beating(replace(tcp_options, user=role, password="made-up"), tmp_path) as node:
            await database.fetch(sql(f"alter role {role} password 'another'"))
            await database.fetch(
                sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1"), [role]
            )
            await node.becomes(State.OUTAGE)
            assert node.cause == "password"
            await database.fetch(sql(f"alter role {role} password 'made-up'"))
            await node.returns()
    finally:
        await database.fetch(sql(f"drop role {role}"))


async def test_a_hanging_lock_is_an_outage_of_this_node(node: Beating, database: Database) -> None:
    """PostgreSQL answers others, but not this: nothing is confirmed."""
    async with database.transaction("hold", 20) as connection:
        await connection.execute("select 1 from standfast_nodes for update")
        await node.becomes(State.OUTAGE)
    await node.returns()


async def test_a_failure_noticed_elsewhere_is_looked_into_at_once(
    tcp_options: DatabaseOptions, tmp_path: Path
) -> None:
    """The next heartbeat does not wait for its time."""
    async with beating(tcp_options, tmp_path, interval_s=60.0) as node:
        node.loop.note_failure(DatabaseRejected("somewhere else", cause="rights"))
        assert node.outage.state is State.SUSPECT
        await node.becomes(State.ONLINE, 2.0)
        assert node.told == [State.ONLINE, State.SUSPECT, State.ONLINE]


async def test_a_company_that_was_taken_is_told(node: Beating, database: Database) -> None:
    """Once for each growth of the revision."""
    calls: list[int] = []
    node.loop.on_revision = lambda: calls.append(1)
    await database.fetch(sql("update standfast_nodes set revision = revision + 1"))
    await until(lambda: len(calls) == 1)
    await asyncio.sleep(3 * QUICK_S)
    assert calls == [1]


async def test_an_answer_that_is_not_accepted_confirms_nothing(node: Beating) -> None:
    """Another database answers under the same address: it is no confirmation of anything."""

    def refuse(_heartbeat: Heartbeat) -> None:
        raise DatabaseRejected("another database", cause="other_database")

    accept: Callable[[Heartbeat], None] = node.loop.accept
    node.loop.accept = refuse
    await node.becomes(State.OUTAGE)
    assert node.cause == "other_database"
    age_s = node.confirmation.age_s()
    await asyncio.sleep(3 * QUICK_S)
    later_s = node.confirmation.age_s()
    assert age_s is not None
    assert later_s is not None
    assert later_s > age_s
    node.loop.accept = accept
    await node.returns()


async def test_a_fault_of_ours_is_an_outage_and_not_the_end(node: Beating) -> None:
    """The loop goes on after what nobody thought of."""

    def broken(_heartbeat: Heartbeat) -> None:
        raise ZeroDivisionError

    accept = node.loop.accept
    node.loop.accept = broken
    await node.becomes(State.OUTAGE)
    node.loop.accept = accept
    await node.returns()
