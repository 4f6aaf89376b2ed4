"""A connection that can be given up at any moment.

Invariant: neither connecting nor a cancelled call waits for the server's consent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor, waiting
from psycopg.abc import Params, PQGen, QueryNoTemplate
from psycopg.types.array import ListBinaryDumper
from psycopg.types.string import BytesBinaryDumper

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres.failures import from_driver, timed_out

RV = TypeVar("RV")


class BoundedConnection(AsyncConnection[tuple[Any, ...]]):
    """psycopg's connection, except that giving up closes it at once, and that it counts `rows`: those that statements
    run by `execute` found or changed."""

    rows = 0

    @classmethod
    async def connect(  # type: ignore[override]  # the pool calls it with what Database told it
        cls,
        conninfo: str = "",
        *,
        deadline_s: float,
        where: str,
        on_failure: Callable[[DatabaseUnavailable | DatabaseRejected], None],
        **kwargs: Any,
    ) -> Self:
        """Raises our errors, so that what the pool logs of them holds no secret either."""
        failure: DatabaseUnavailable | DatabaseRejected
        try:
            async with asyncio.timeout(deadline_s):
                connection = await super().connect(conninfo, **kwargs)
        except TimeoutError:
            failure = timed_out(where, "connecting", deadline_s)
        except (psycopg.Error, OSError) as error:
            failure = from_driver(error, where)
        else:
            # Written as text, each value of an array is quoted byte by byte: 40 times slower.
            connection.adapters.register_dumper(list, ListBinaryDumper)
            connection.adapters.register_dumper(bytes, BytesBinaryDumper)
            return connection
        on_failure(failure)
        raise failure

    async def execute(  # type: ignore[override]  # no statement of ours is a template string
        self,
        query: QueryNoTemplate,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool = False,
    ) -> AsyncCursor[tuple[Any, ...]]:
        cursor = await super().execute(query, params, prepare=prepare, binary=binary)
        self.rows += max(0, cursor.rowcount)
        return cursor

    async def wait(self, gen: PQGen[RV], interval: float = 1.0, timeout: float | None = None) -> RV:
        """As psycopg's own, which on cancellation asks the server to cancel and waits for it: on a server that
        is stopped, or behind a dead network, that wait is what must not be. The statement's fate is unknown."""
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except asyncio.CancelledError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Close without a word to the server, so that the pool replaces it."""
        self.pgconn.finish()
