"""`Database`: a pool of connections on which nothing waits without end.

Invariant: connecting, checkout and every statement have deadlines on this side too, because a stopped server or
a dead network answers nothing; a connection that missed one is thrown away, never handed out again.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor
from psycopg.pq.abc import PGresult
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from standfast.errors import DatabaseRejected, DatabaseUnavailable, StandfastError
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.failures import from_driver, is_transient, pool_exhausted, timed_out
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.retry import retried

T = TypeVar("T")

_CLOSE_TIMEOUT_S = 2.0
_SERVER_GRACE_S = 0.5  # the server's own statement_timeout speaks first, and says so


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `$1` parameters under the name that metrics know it by."""

    name: str
    sql: str


class QueryObserver(Protocol):
    """Told about every statement when it has ended; must be quick and must not raise."""

    def on_query(self, name: str, duration_s: float, rows: int, outcome: str, retries: int) -> None:
        """`outcome` is "ok", or the cause of the failure that its caller got."""
        ...


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    size: int
    idle: int
    waiting: int
    max_size: int


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call that waits for a connection, and why the last attempt to make one failed."""

    deadline: asyncio.Timeout
    failure: DatabaseUnavailable | DatabaseRejected | None = None


class Database:
    """Runs named statements, each atomic by itself, and retries those that met a transient failure.

    So a statement must be one that may be applied twice. What needs several statements in one transaction
    takes `transaction`, which is not retried.
    """

    def __init__(self, options: DatabaseOptions, observer: QueryObserver | None = None) -> None:
        self.options = options
        self.where = options.describe()
        self._observer = observer
        self._waiters: set[_Waiter] = set()
        self._busy = 0
        self._pool = AsyncConnectionPool(
            options.to_conninfo(),
            connection_class=BoundedConnection,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None if options.transaction_pooling else 1,
                "cursor_factory": AsyncRawCursor,
                "deadline_s": options.connect_deadline_s(),
                "where": self.where,
                "on_failure": self._connect_failed,
            },
            min_size=0,
            max_size=options.max_connections,
            timeout=self._checkout_limit_s(),
            # A caller's need starts each attempt. The pool's own backoff would leave it asleep for minutes
            # after the server is back.
            reconnect_timeout=0,
            open=False,
            name="standfast",
        )

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Be ready for calls; connects when the first one comes. `ping` tells whether the server is there."""
        await self._pool.open()

    async def close(self) -> None:
        """Close every connection, within seconds whatever the server does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S + 1):
                await self._pool.close(timeout=_CLOSE_TIMEOUT_S)

    async def ping(self) -> float:
        """Seconds that a round trip took. Raises like every call."""
        start = time.perf_counter()
        await self.fetch(PING)
        return time.perf_counter() - start

    def statistics(self) -> PoolStatistics:
        measures = self._pool.get_stats()
        size = measures.get("pool_size", 0)
        return PoolStatistics(
            size,
            measures.get("pool_available", 0),
            measures.get("requests_waiting", 0),
            self.options.max_connections,
        )

    async def fetch(
        self,
        statement: Statement,
        params: Sequence[Any] = (),
        *,
        retry: bool = True,
        transfer_s: float = 0.0,
    ) -> list[tuple[Any, ...]]:
        """Every row, as Python values. A failure raises `DatabaseUnavailable` or `DatabaseRejected`. `transfer_s` is
        what a slow link may need to carry the parameters, on top of the statement's own deadline."""

        async def read(connection: BoundedConnection) -> tuple[list[tuple[Any, ...]], int]:
            cursor = await connection.execute(statement.sql, params)
            rows = await cursor.fetchall() if cursor.description else []
            return rows, len(rows)

        return await self._observed(statement.name, read, retry=retry, transfer_s=transfer_s)

    async def fetch_raw(
        self, statement: Statement, params: Sequence[Any], read: Callable[[PGresult], T]
    ) -> T:
        """What `read` makes of the wire's own bytes: for the hot path, where values are only passed on."""

        async def run(connection: BoundedConnection) -> tuple[T, int]:
            cursor = await connection.execute(statement.sql, params)
            result = cursor.pgresult
            assert result is not None, "a statement that was executed has a result"
            return read(result), result.ntuples

        return await self._observed(statement.name, run)

    @contextlib.asynccontextmanager
    async def transaction(
        self, name: str, timeout_s: float
    ) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
        """One transaction over several statements that must end within `timeout_s`; never retried.
        Committed when the block ends, rolled back when it raises."""
        start = time.perf_counter()
        outcome = "ok"
        try:
            async with self._connection(timeout_s, name) as connection, connection.transaction():
                if not self.options.transaction_pooling:
                    await connection.execute(f"set local statement_timeout = {int(timeout_s * 1000)}")
                yield connection
        except StandfastError as error:
            outcome = str(error.facts.get("cause", error.code))
            raise
        finally:
            self._report(name, start, 0, outcome, 0)

    async def _observed(
        self,
        name: str,
        run: Callable[[BoundedConnection], Awaitable[tuple[T, int]]],
        *,
        retry: bool = True,
        transfer_s: float = 0.0,
    ) -> T:
        start = time.perf_counter()
        limit_s = self.options.statement_timeout_s + _SERVER_GRACE_S + transfer_s
        retries = rows = 0
        outcome = "failed"

        async def attempt() -> T:
            nonlocal rows
            async with self._connection(limit_s, name) as connection:
                result, rows = await run(connection)
            return result

        def count() -> None:
            nonlocal retries
            retries += 1

        try:
            budget_s = self.options.statement_timeout_s if retry else 0.0
            result = await retried(attempt, is_transient, budget_s=budget_s, on_retry=count)
            outcome = "ok"
            return result
        except StandfastError as error:
            outcome = str(error.facts.get("cause", error.code))
            raise
        finally:
            self._report(name, start, rows, outcome, retries)

    def _report(self, name: str, start: float, rows: int, outcome: str, retries: int) -> None:
        if self._observer is not None:
            self._observer.on_query(name, time.perf_counter() - start, rows, outcome, retries)

    @contextlib.asynccontextmanager
    async def _connection(self, limit_s: float, name: str) -> AsyncIterator[BoundedConnection]:
        connection = await self._checkout()
        self._busy += 1
        try:
            async with asyncio.timeout(limit_s):
                yield connection
        except TimeoutError:
            # Nothing that connected before this moment is to be trusted either.
            connection.abandon()
            await self._pool.drain()
            raise timed_out(self.where, f"'{name}'", limit_s) from None
        except psycopg.Error as error:
            ours = from_driver(error, self.where)
            if ours.facts["cause"] == "read_only":
                connection.abandon()
                await self._pool.drain()
            raise ours from None
        finally:
            self._busy -= 1
            await self._pool.putconn(connection)

    async def _checkout(self) -> BoundedConnection:
        limit_s = self._checkout_limit_s()
        waiter = _Waiter(asyncio.timeout(limit_s))
        try:
            async with waiter.deadline:
                self._waiters.add(waiter)
                try:
                    return await self._living(limit_s)
                finally:
                    self._waiters.discard(waiter)
        except (TimeoutError, PoolTimeout):
            raise waiter.failure or self._checkout_timed_out(limit_s) from None
        except PoolClosed:
            raise DatabaseUnavailable("the database pool is closed", cause="closed") from None

    async def _living(self, limit_s: float) -> BoundedConnection:
        """A connection whose server has not hung up on it while it was idle."""
        while True:
            connection = await self._pool.getconn(timeout=limit_s)
            if not _hung_up(connection):
                return connection
            connection.abandon()
            await self._pool.putconn(connection)

    def _checkout_limit_s(self) -> float:
        # The first of several hosts may take its whole connect timeout before the next one is tried.
        return (
            self.options.checkout_timeout_s
            + self.options.connect_deadline_s()
            - self.options.connect_timeout_s
        )

    def _checkout_timed_out(self, limit_s: float) -> DatabaseUnavailable:
        if self._busy >= self.options.max_connections:
            return pool_exhausted(self._busy, limit_s)
        return timed_out(self.where, "connecting", limit_s)

    def _connect_failed(self, error: DatabaseUnavailable | DatabaseRejected) -> None:
        """The pool keeps why it cannot connect to itself; those who wait learn it here, at once.
        While other connections are in use they may still be handed one of those."""
        now = asyncio.get_running_loop().time()
        for waiter in self._waiters:
            waiter.failure = error
            if not self._busy and not waiter.deadline.expired():
                waiter.deadline.reschedule(now)


PING = Statement("ping", "select 1")


def _hung_up(connection: BoundedConnection) -> bool:
    """An idle connection has nothing to say: what can be read is the server's farewell."""
    if connection.closed:
        return True
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
