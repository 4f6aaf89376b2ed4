"""Deadlines, retries and recovery: the server stops, vanishes, or ends connections."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from standfast.errors import DatabaseUnavailable
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.observing import Execution
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import PING, Database, Statement
from tests.support import Proxy, until, works

WHO = Statement("who", "select pg_backend_pid()")
SLEEP = Statement("sleep", "select pg_sleep($1)")


class Observed:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, str, int]] = []

    def on_query(self, execution: Execution) -> None:
        self.calls.append((execution.name, execution.rows, execution.outcome, execution.retries))


async def test_a_dropped_connection_is_retried(database: Database) -> None:
    """Every idle connection is killed: the caller notices nothing."""
    first = (await database.fetch(WHO))[0][0]
    async with database.transaction("hold", 5) as connection:
        second = (await (await connection.execute("select pg_backend_pid()")).fetchall())[0][0]
    assert second == first, "one connection is enough for one caller"
    await terminate(database, [first])
    assert (await database.fetch(WHO))[0][0] != first


async def test_a_connection_that_dies_during_the_call_is_retried(database_options: DatabaseOptions) -> None:
    """A backend is terminated while the statement runs: it is run again, and the observer sees one call, retried."""
    seen = Observed()
    slow = Statement("slow", "select pg_sleep(0.3), pg_backend_pid()")
    async with Database(database_options, seen) as database, Database(database_options) as other:
        pid = (await database.fetch(WHO))[0][0]
        call = asyncio.create_task(database.fetch(slow))
        await until(lambda: is_running(other, pid))
        await terminate(other, [pid])
        assert (await call)[0][1] != pid
    assert seen.calls == [("who", 1, "ok", 0), ("slow", 1, "ok", 1)]


async def test_a_pool_full_of_dead_connections_is_not_served(database_options: DatabaseOptions) -> None:
    """More connections have died than there are retries: still none of them reaches a caller."""
    async with Database(database_options) as database, Database(database_options) as other:
        await asyncio.gather(*(database.fetch(SLEEP, [0.2]) for _ in range(10)))
        pids = await other.fetch(
            Statement(
                "pids",
                "select pid from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()",
            )
        )
        assert len(pids) == 10
        await terminate(other, [pid for (pid,) in pids])
        assert (await database.fetch(WHO))[0] not in pids


async def test_a_stopped_backend_is_an_error_within_seconds(database_options: DatabaseOptions) -> None:
    """The server process does not run: the client's own deadline speaks, the connection is thrown away, and the next
    call works on another."""
    options = replace(database_options, statement_timeout_s=0.5, max_connections=1)
    async with Database(options) as database:
        pid = (await database.fetch(WHO))[0][0]
        os.kill(pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            with pytest.raises(DatabaseUnavailable) as caught:
                await database.ping()
            assert time.monotonic() - start < 2.5
            assert caught.value.facts["cause"] == "timeout"
            assert (await database.fetch(WHO))[0][0] != pid
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_stopped_server_is_an_error_within_seconds_and_recovers(tmp_path: Path) -> None:
    """Every process of the server is stopped: calls, new connections and closing do not hang; afterwards it works."""
    async with EmbeddedServer(tmp_path / "state", durable=False) as server:
        options = replace(
            server.options, statement_timeout_s=0.5, connect_timeout_s=0.5, checkout_timeout_s=0.5
        )
        async with Database(options) as database, Database(options) as closing:
            await database.ping()
            await closing.ping()
            assert server.pid is not None
            postmaster = psutil.Process(server.pid)
            family = [postmaster, *postmaster.children(recursive=True)]
            for process in family:
                process.suspend()
            try:
                start = time.monotonic()
                for _ in range(2):
                    with pytest.raises(DatabaseUnavailable) as caught:
                        await database.ping()
                    assert caught.value.facts["cause"] == "timeout"
                await closing.close()
                assert time.monotonic() - start < 6
            finally:
                for process in family:
                    process.resume()
            await until(lambda: works(database))


async def test_a_dead_network_is_an_error_within_seconds_and_recovers(
    proxy: Proxy, tcp_options: DatabaseOptions
) -> None:
    """Packets vanish: established and new connections alike run into deadlines; when they flow again, so do calls."""
    options = replace(
        tcp_options, port=proxy.port, statement_timeout_s=0.5, connect_timeout_s=0.5, checkout_timeout_s=0.5
    )
    async with Database(options) as database:
        await database.ping()
        proxy.flowing.clear()
        start = time.monotonic()
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable) as caught:
                await database.ping()
            assert caught.value.facts["cause"] == "timeout"
        assert time.monotonic() - start < 5
        proxy.flowing.set()
        await until(lambda: works(database), timeout_s=3)


async def test_one_dead_connection_condemns_those_of_its_age(
    proxy: Proxy, tcp_options: DatabaseOptions
) -> None:
    """A firewall forgot every established connection: after the first deadline the rest are not tried one by one."""
    options = replace(tcp_options, port=proxy.port, statement_timeout_s=0.5)
    async with Database(options) as database:
        await asyncio.gather(*(database.fetch(SLEEP, [0.2]) for _ in range(5)))
        proxy.freeze()
        with pytest.raises(DatabaseUnavailable):
            await database.ping()
        for _ in range(5):
            await database.ping()


async def test_recovery_after_a_long_outage_is_immediate(proxy: Proxy, tcp_options: DatabaseOptions) -> None:
    """After many failed attempts there is no backoff of minutes: the first call after the server is back works."""
    async with Database(replace(tcp_options, port=proxy.port)) as database:
        await database.ping()
        await proxy.close()
        for _ in range(4):
            with pytest.raises(DatabaseUnavailable):
                await database.ping()
        await proxy.listen()
        start = time.monotonic()
        await database.ping()
        assert time.monotonic() - start < 1


async def test_an_outage_shorter_than_the_retries_is_not_noticed(
    proxy: Proxy, tcp_options: DatabaseOptions
) -> None:
    async with Database(replace(tcp_options, port=proxy.port)) as database:
        await database.ping()
        await proxy.close()
        call = asyncio.create_task(database.ping())
        await asyncio.sleep(0.2)
        await proxy.listen()
        await call


async def test_a_cancelled_call_returns_at_once(database_options: DatabaseOptions) -> None:
    """Cancellation does not wait for the server's consent, and the pool replaces the connection."""
    async with Database(replace(database_options, max_connections=1)) as database:
        pid = (await database.fetch(WHO))[0][0]
        os.kill(pid, signal.SIGSTOP)
        try:
            call = asyncio.create_task(database.fetch(SLEEP, [5]))
            await asyncio.sleep(0.1)
            start = time.monotonic()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert time.monotonic() - start < 0.5
            assert (await database.fetch(WHO))[0][0] != pid
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_the_server_ends_long_statements_itself(database_options: DatabaseOptions) -> None:
    """statement_timeout is set in the session, so a client that vanished leaves nothing running for long."""
    async with Database(replace(database_options, statement_timeout_s=0.3)) as database:
        with pytest.raises(DatabaseUnavailable) as caught:
            await database.fetch(SLEEP, [5])
        assert caught.value.facts == {"cause": "timeout", "sqlstate": "57014"}


async def test_an_exhausted_pool_is_told_from_a_dead_server(database_options: DatabaseOptions) -> None:
    options = replace(database_options, max_connections=1, checkout_timeout_s=0.3)
    async with Database(options) as database, database.transaction("hold", 5):
        with pytest.raises(DatabaseUnavailable) as caught:
            await database.ping()
        assert caught.value.facts["cause"] == "pool_exhausted"


async def test_a_transaction_commits_or_leaves_nothing(database: Database) -> None:
    insert = "insert into standfast_sessions (company_id) values ('acme')"

    async def interrupted() -> None:
        async with database.transaction("test", 5) as connection:
            await connection.execute(insert)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        await interrupted()
    assert await database.fetch(Statement("count", "select count(*) from standfast_sessions")) == [(0,)]
    async with database.transaction("test", 5) as connection:
        await connection.execute(insert)
    assert await database.fetch(Statement("count", "select count(*) from standfast_sessions")) == [(1,)]


async def test_a_cancelled_transaction_leaves_nothing_and_a_working_pool(database: Database) -> None:
    async def endless() -> None:
        async with database.transaction("test", 30) as connection:
            await connection.execute("insert into standfast_sessions (company_id) values ('acme')")
            await connection.execute("select pg_sleep(30)")

    task = asyncio.create_task(endless())
    await until(lambda: is_sleeping(database))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.fetch(Statement("count", "select count(*) from standfast_sessions")) == [(0,)]


async def test_transaction_pooling_prepares_nothing_and_sets_nothing(tcp_options: DatabaseOptions) -> None:
    """What a transaction-pooling proxy forbids is left out: startup options and prepared statements."""
    async with Database(replace(tcp_options, transaction_pooling=True, max_connections=1)) as database:
        for _ in range(8):
            await database.ping()
        prepared = Statement("prepared", "select count(*) from pg_prepared_statements")
        assert await database.fetch(prepared) == [(0,)]
        assert await database.fetch(Statement("show", "show statement_timeout")) == [("0",)]


async def test_closed_and_never_opened_pools_say_so(database_options: DatabaseOptions) -> None:
    database = Database(database_options)
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await database.open()
    await database.ping()
    await database.close()
    await database.close()
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.ping()
    assert caught.value.facts["cause"] == "closed"


async def test_statistics_count_connections(database: Database) -> None:
    await database.fetch(PING)
    found = database.statistics()
    assert (found.size, found.idle, found.waiting, found.max_size) == (1, 1, 0, 10)


async def terminate(database: Database, pids: list[int]) -> None:
    await database.fetch(
        Statement("terminate", "select pg_terminate_backend(pid, 2000) from unnest($1::int[]) pid"), [pids]
    )


async def is_running(database: Database, pid: int) -> bool:
    statement = Statement(
        "running", "select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"
    )
    return bool(await database.fetch(statement, [pid]))


async def is_sleeping(database: Database) -> bool:
    return bool(
        await database.fetch(
            Statement("sleeping", "select 1 from pg_stat_activity where wait_event = 'PgSleep'")
        )
    )
