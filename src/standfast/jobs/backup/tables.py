"""Which tables a backup is of: Baileys' two and Standfast's own, wherever the search path finds them.

Invariant: a table that an unqualified name does not reach is none of ours, and what else a database holds is not
looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

_AUTH_STATE = ("whatsapp_auth", "whatsapp_keys")
# A partitioned table has its rows in others, whose names are free.
_TABLES = r"""
with recursive ours as (
    select c.oid, c.oid as root from pg_class c
    where c.relkind in ('r', 'p') and pg_table_is_visible(c.oid) and not c.relispartition
      and c.relpersistence <> 't'
      and (c.relname in ('whatsapp_auth', 'whatsapp_keys') or c.relname like 'standfast\_%')
    union all select i.inhrelid, o.root from ours o join pg_inherits i on i.inhparent = o.oid
)
select n.nspname::text, c.relname::text, r.relname::text, c.oid = o.root, pg_table_size(c.oid)
from ours o join pg_class c on c.oid = o.oid join pg_class r on r.oid = o.root
     join pg_namespace n on n.oid = c.relnamespace
order by 1, 2
"""
_COLUMNS = """
select c.relname::text, a.attname::text, format_type(a.atttypid, null), a.attnotnull
from pg_attribute a join pg_class c on c.oid = a.attrelid
where a.attrelid in (to_regclass('whatsapp_auth'), to_regclass('whatsapp_keys')) and a.attnum > 0 and not a.attisdropped
"""


@dataclass(frozen=True, slots=True)
class Column:
    type: str
    not_null: bool


@dataclass(frozen=True, slots=True)
class Table:
    """`parts`: every table that has its rows, itself included, as quoted names with their schema. `bytes`: on disk,
    without indexes."""

    schema: str
    name: str
    bytes: int
    parts: tuple[str, ...]

    @property
    def quoted(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Tables:
    """`columns` of Baileys' two tables, by table and name."""

    tables: tuple[Table, ...]
    columns: Mapping[str, Mapping[str, Column]]

    def get(self, name: str) -> Table | None:
        return next((table for table in self.tables if table.name == name), None)

    @property
    def has_auth_state(self) -> bool:
        return all(self.get(name) is not None for name in _AUTH_STATE)

    @property
    def bytes(self) -> int:
        return sum(table.bytes for table in self.tables)


async def our_tables(connection: AsyncConnection[tuple[Any, ...]]) -> Tables:
    """As the connection's search path and transaction see them."""
    rows = await (await connection.execute(_TABLES)).fetchall()
    columns: dict[str, dict[str, Column]] = {}
    for table, name, kind, not_null in await (await connection.execute(_COLUMNS)).fetchall():
        columns.setdefault(table, {})[name] = Column(kind, not_null)
    return Tables(
        tuple(_table(schema, name, rows) for schema, name, _, is_root, _ in rows if is_root), columns
    )


def _table(schema: str, name: str, rows: list[tuple[Any, ...]]) -> Table:
    own = [row for row in rows if row[2] == name]
    parts = tuple(f"{quoted(row[0])}.{quoted(row[1])}" for row in own)
    return Table(schema, name, sum(int(row[4]) for row in own), parts)


def quoted(name: str) -> str:
    """An identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
