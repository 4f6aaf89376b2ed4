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
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncRawCursor
from psycopg.pq.abc import PGresult
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.failures import from_driver, is_transient, pool_exhausted, timed_out
from standfast.postgres.observing import (
    OK,
    WITHOUT_LIMIT_S,
    Execution,
    Holder,
    PoolObserver,
    PoolUse,
    QueryObserver,
    outcome_of,
)
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.retry import retried

T = TypeVar("T")

_CLOSE_TIMEOUT_S = 2.0
_SERVER_GRACE_S = 0.5  # the server's own statement_timeout speaks first, and says so


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with `$1` parameters under the name that metrics know it by. `heavy`: its time grows with the tables, so
    that a long one says nothing of PostgreSQL's health."""

    name: str
    sql: str
    heavy: bool = False


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """`active` connections are with a call; `waiting` calls have none. `timeouts`: calls that got none in time though
    PostgreSQL was there. `held_s`: for how long connections were with a call since the start, all added up. `holders`:
    of every connection that is with a call, the one held longest first."""

    size: int
    idle: int
    active: int
    waiting: int
    max_size: int
    timeouts: int
    held_s: float
    holders: tuple[Holder, ...]


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

    def __init__(
        self,
        options: DatabaseOptions,
        observer: QueryObserver | None = None,
        pool_observer: PoolObserver | None = None,
    ) -> None:
        self.options = options
        self.where = options.describe()
        self.observer = observer
        self._waiters: set[_Waiter] = set()
        self._use = PoolUse(pool_observer)
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
        return PoolStatistics(
            size=measures.get("pool_size", 0),
            idle=measures.get("pool_available", 0),
            active=self._use.active,
            waiting=len(self._waiters),
            max_size=self.options.max_connections,
            timeouts=self._use.timeouts,
            held_s=self._use.held_s(),
            holders=self._use.holders(),
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
            cursor = await connection.cursor().execute(statement.sql, params)
            rows = await cursor.fetchall() if cursor.description else []
            return rows, len(rows)

        return await self._observed(statement, read, retry=retry, transfer_s=transfer_s)

    async def fetch_raw(
        self, statement: Statement, params: Sequence[Any], read: Callable[[PGresult], T]
    ) -> T:
        """What `read` makes of the wire's own bytes: for the hot path, where values are only passed on."""

        async def run(connection: BoundedConnection) -> tuple[T, int]:
            cursor = await connection.cursor().execute(statement.sql, params)
            result = cursor.pgresult
            assert result is not None, "a statement that was executed has a result"
            return read(result), result.ntuples

        return await self._observed(statement, run)

    @contextlib.asynccontextmanager
    async def transaction(self, name: str, timeout_s: float) -> AsyncIterator[BoundedConnection]:
        """One transaction over several statements that must end within `timeout_s`; never retried.
        Committed when the block ends, rolled back when it raises. Observers see one call, with the rows of all."""
        call = Execution(name, expected_s=timeout_s)
        start_s = time.monotonic()
        try:
            async with self._connection(timeout_s, call) as connection, connection.transaction():
                if not self.options.transaction_pooling:
                    await connection.execute(f"set local statement_timeout = {int(timeout_s * 1000)}")
                connection.rows = 0
                yield connection
                call.rows = connection.rows
        except BaseException as error:
            call.outcome = outcome_of(error)
            raise
        finally:
            self._report(call, start_s)

    async def _observed(
        self,
        statement: Statement,
        run: Callable[[BoundedConnection], Awaitable[tuple[T, int]]],
        *,
        retry: bool = True,
        transfer_s: float = 0.0,
    ) -> T:
        call = Execution(statement.name, expected_s=WITHOUT_LIMIT_S if statement.heavy else transfer_s)
        limit_s = self.options.statement_timeout_s + _SERVER_GRACE_S + transfer_s
        start_s = time.monotonic()

        async def attempt() -> T:
            async with self._connection(limit_s, call) as connection:
                result, call.rows = await run(connection)
            return result

        def count() -> None:
            call.retries += 1

        try:
            budget_s = self.options.statement_timeout_s if retry else 0.0
            return await retried(attempt, is_transient, budget_s=budget_s, on_retry=count)
        except BaseException as error:
            call.outcome = outcome_of(error)
            raise
        finally:
            self._report(call, start_s)

    def _report(self, call: Execution, start_s: float) -> None:
        if self.observer is not None:
            if call.outcome is not OK:
                call.ended_s = time.monotonic()
            call.duration_s = call.ended_s - start_s
            self.observer.on_query(call)

    @contextlib.asynccontextmanager
    async def _connection(self, limit_s: float, call: Execution) -> AsyncIterator[BoundedConnection]:
        connection = await self._checkout()
        self._use.taken(connection, call.name, len(self._waiters))
        try:
            async with asyncio.timeout(limit_s):
                yield connection
        except TimeoutError:
            # Nothing that connected before this moment is to be trusted either.
            connection.abandon()
            await self._pool.drain()
            raise timed_out(self.where, f"'{call.name}'", limit_s) from None
        except psycopg.Error as error:
            ours = from_driver(error, self.where)
            if ours.facts["cause"] == "read_only":
                connection.abandon()
                await self._pool.drain()
            raise ours from None
        finally:
            self._use.returned(connection, call, len(self._waiters))
            await self._pool.putconn(connection)

    async def _checkout(self) -> BoundedConnection:
        limit_s = self._checkout_limit_s()
        waiter = _Waiter(asyncio.timeout(limit_s))
        try:
            async with waiter.deadline:
                self._waiters.add(waiter)
                if self._is_full():
                    self._use.queued(len(self._waiters))
                try:
                    return await self._living(limit_s)
                finally:
                    self._waiters.discard(waiter)
                    if self._is_full():
                        self._use.queued(len(self._waiters))
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
        if self._is_full():
            self._use.timed_out()
            return pool_exhausted(self._use.active, limit_s)
        return timed_out(self.where, "connecting", limit_s)

    def _is_full(self) -> bool:
        return self._use.active >= self.options.max_connections

    def _connect_failed(self, error: DatabaseUnavailable | DatabaseRejected) -> None:
        """The pool keeps why it cannot connect to itself; those who wait learn it here, at once.
        While other connections are in use they may still be handed one of those."""
        now = asyncio.get_running_loop().time()
        for waiter in self._waiters:
            waiter.failure = error
            if not self._use.active and not waiter.deadline.expired():
                waiter.deadline.reschedule(now)


PING = Statement("ping", "select 1")


def _hung_up(connection: BoundedConnection) -> bool:
    """An idle connection has nothing to say: what can be read is the server's farewell."""
    if connection.closed:
        return True
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))
