"""A company's whole auth state, streamed out of PostgreSQL.

Invariant: what is yielded is of one moment, and an end that is not an error means that it was everything. A consumer
that stops early leaves no connection behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from psycopg import pq

from standfast.authstate.company import Company
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.failures import timed_out
from standfast.postgres.pool import Database

# The creds come first: of them alone the key type is null.
_ROWS = """
select key_type, key_id, convert_to(value, 'UTF8') from (
    select null::text as key_type, null::text as key_id, creds::text as value from whatsapp_auth where company_id = $1
    union all
    select key_type, key_id, value::text from whatsapp_keys where company_id = $1
) rows order by key_type is not null
"""
_NAME = "company.stream"
_TIMEOUT_S = 600.0
_STALL_S = 10.0
_CHUNK_ROWS = 500
_CHUNK_BYTES = 256 * 1024
_CHUNKS_AHEAD = 2
_ROWS_AT_ONCE = _CHUNK_ROWS if pq.version() >= 170000 else 1  # an older libpq hands rows over one by one

Row = tuple[str | None, str | None, bytes]
_Queue = asyncio.Queue[list[Row] | None]


async def stream(database: Database, company: Company) -> AsyncGenerator[list[Row], None]:
    """See `Replication.stream`."""
    queue: _Queue = asyncio.Queue(_CHUNKS_AHEAD)
    # In a task of its own: deadlines that end inside a generator would cancel whoever consumes it.
    reading = asyncio.create_task(_read(database, company, queue), name=_NAME)
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
        await reading
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def _read(database: Database, company: Company, queue: _Queue) -> None:
    try:
        async with database.transaction(_NAME, _TIMEOUT_S) as connection:
            await _pass_on(database, connection, company, queue)
    except asyncio.CancelledError:
        raise
    except BaseException:
        await queue.put(None)
        raise
    await queue.put(None)


async def _pass_on(
    database: Database, connection: BoundedConnection, company: Company, queue: _Queue
) -> None:
    rows = connection.cursor().stream(_ROWS, [company], binary=True, size=_ROWS_AT_ONCE)
    async with aclosing(cast(AsyncGenerator[tuple[Any, ...], None], rows)):
        try:
            chunk: list[Row] = []
            size_bytes = 0
            while (row := await _next(database, rows)) is not None:
                chunk.append((row[0], row[1], row[2]))
                connection.rows += 1
                size_bytes += len(row[2])
                if len(chunk) >= _CHUNK_ROWS or size_bytes >= _CHUNK_BYTES:
                    await queue.put(chunk)
                    chunk, size_bytes = [], 0
        except BaseException:
            # Amid an answer nothing else can be said on this connection, and its end may never come.
            connection.pgconn.finish()
            raise
    if chunk:
        await queue.put(chunk)


async def _next(database: Database, rows: AsyncIterator[tuple[Any, ...]]) -> tuple[Any, ...] | None:
    try:
        async with asyncio.timeout(_STALL_S):
            return await anext(rows, None)
    except TimeoutError:
        raise timed_out(database.where, f"a row of '{_NAME}'", _STALL_S) from None
