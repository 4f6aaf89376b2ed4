"""The numbered migrations, and the table that says which of them a database has had.

Invariant: numbers begin at 1 without gaps, and a migration that was released is never edited.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from psycopg import AsyncConnection

_LEDGER = """
create table if not exists standfast_migrations (
    version    integer     not null primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default now(),
    breaks_below integer null
)
"""
# By way of JSON, since a ledger of before version 7 has no such column.
_APPLIED = """
select version, checksum, coalesce((to_jsonb(m) ->> 'breaks_below')::integer, 0) from standfast_migrations m
"""


@dataclass(frozen=True, slots=True)
class Numbered:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def _numbered() -> tuple[Numbered, ...]:
    folder = resources.files(__package__)
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = tuple(
        Numbered(int(name[:4]), name[5:-4].replace("_", " "), (folder / name).read_text("utf-8"))
        for name in names
    )
    if [number.version for number in found] != list(range(1, len(found) + 1)):
        raise AssertionError("migrations are numbered from 1 without gaps")
    return found


NUMBERED = _numbered()


class Applied(NamedTuple):
    """`breaks_below`: versions that know no migration as high as this cannot use the schema; 0: every one can."""

    checksum: str
    breaks_below: int


async def applied_versions(connection: AsyncConnection[tuple[Any, ...]]) -> dict[int, Applied]:
    """Every migration that the database has had, by its version."""
    found = await (
        await connection.execute("select to_regclass('standfast_migrations') is not null")
    ).fetchone()
    if found is None or not found[0]:
        return {}
    cursor = await connection.execute(_APPLIED)
    return {version: Applied(*rest) for version, *rest in await cursor.fetchall()}


async def record(connection: AsyncConnection[tuple[Any, ...]], number: Numbered) -> None:
    await connection.execute(_LEDGER)
    await connection.execute(
        "insert into standfast_migrations (version, name, checksum) values ($1, $2, $3)",
        [number.version, number.name, number.checksum],
    )
