"""`Staging`: the keys of a source, beside the tables that they are put into company by company.

Invariant: what is staged is whole, or is loaded anew: it counts only with the mark that it bears once every company's
keys have been counted. The table is no part of the schema, holds nothing that the database does not hold anyway, and
goes when a restore has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, DatabaseUnavailable
from standfast.jobs.progress import Progress
from standfast.jobs.restore.source import COLUMNS, Offer, Source
from standfast.postgres.pool import Database, Statement

TABLE = "restoring_standfast_keys"
_LOAD_TIMEOUT_S = 6 * 3_600.0
_STALL_S = 60.0
# Unlogged: it is loaded anew after a crash of the server, and costs half.
_CREATE = f"""
create unlogged table {TABLE} (
    company_id text not null, key_type text not null, key_id text not null, value text not null,
    created_at timestamptz, updated_at timestamptz, expires_at timestamptz
)
"""
_COPY = f"copy {TABLE} ({', '.join(COLUMNS)}) from stdin"
_INDEX = f"create index on {TABLE} (company_id)"
_COUNT = f"select company_id, count(*) from {TABLE} group by 1"
_MARK = Statement(
    "restore.mark",
    f"select obj_description(to_regclass('{TABLE}'), 'pg_class'), exists (select from {TABLE})",
)
_THERE = Statement("restore.there", f"select to_regclass('{TABLE}') is not null")
_DROP = Statement("restore.drop", f"drop table if exists {TABLE}")


class Staging:
    """`restore`: the id of the restore that it is for."""

    def __init__(self, database: Database, restore: str) -> None:
        self._database = database
        self._mark = f"standfast restore {restore}"

    async def is_loaded(self) -> bool:
        """Whether what this restore has loaded is still there. A server that crashed has emptied it."""
        ((there,),) = await self._database.fetch(_THERE)
        if not there:
            return False
        ((mark, has_rows),) = await self._database.fetch(_MARK)
        return mark == self._mark and bool(has_rows)

    async def load(self, source: Source, offers: Mapping[Company, Offer], progress: Progress) -> int:
        """Load the keys of all `offers`; how many. `BackupDamaged` where a company has not as many as were offered."""
        total = sum(offer.keys for offer in offers.values())
        progress.step("loading keys", total, "keys")
        async with self._database.transaction("restore.load", _LOAD_TIMEOUT_S) as connection:
            await connection.execute(_DROP.sql)
            await connection.execute(_CREATE)
            await self._copy(connection, source, frozenset(offers), progress)
            await connection.execute(_INDEX)
            await connection.execute(f"analyze {TABLE}")
            found = dict(await _rows(connection, _COUNT))
            for company, offer in offers.items():
                if found.get(company, 0) != offer.keys:
                    raise BackupDamaged(
                        f"{source.name} has {found.get(company, 0):,} keys of {company} and says {offer.keys:,}"
                    )
            await connection.execute(f"comment on table {TABLE} is '{self._mark}'")
        return total

    async def _copy(
        self,
        connection: AsyncConnection[tuple[Any, ...]],
        source: Source,
        companies: frozenset[Company],
        progress: Progress,
    ) -> None:
        async with (
            connection.cursor().copy(_COPY) as copy,
            contextlib.aclosing(source.lines(companies)) as chunks,
        ):
            async for chunk in chunks:
                try:
                    async with asyncio.timeout(_STALL_S):
                        await copy.write(chunk)
                except TimeoutError:
                    raise DatabaseUnavailable(
                        f"PostgreSQL has taken no keys for {_STALL_S:g} s", cause="timeout"
                    ) from None
                progress.advance(chunk.count(b"\n"))

    async def drop(self) -> None:
        """The restore has ended."""
        await self._database.fetch(_DROP)


async def _rows(connection: AsyncConnection[tuple[Any, ...]], query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query)).fetchall()
