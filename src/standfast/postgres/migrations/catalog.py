"""What PostgreSQL's catalog says about the auth-state tables, as plain values.

Invariant: reads only; a table that does not exist is absent from the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

TABLES = ("whatsapp_auth", "whatsapp_keys")

_COLUMNS = """
select a.attname, format_type(a.atttypid, null), format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.atthasdef or a.attidentity <> '' or a.attgenerated <> ''
from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
"""
_INDEXES = """
select c.relname, am.amname, i.indisunique and i.indimmediate and i.indisvalid
           and i.indpred is null and i.indexprs is null,
       array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k (attnum, n)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
             where k.n <= i.indnkeyatts order by k.n),
       array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k (attnum, n)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum),
       (select conname from pg_constraint where conindid = i.indexrelid and contype in ('p', 'u', 'x') limit 1)
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam
where i.indrelid = to_regclass($1)
"""
_KIND = "select relkind::text from pg_class where oid = to_regclass($1)"


@dataclass(frozen=True, slots=True)
class Column:
    type: str
    full_type: str
    not_null: bool
    fills_itself: bool


@dataclass(frozen=True, slots=True)
class Index:
    """`arbitrates`: INSERT … ON CONFLICT can use it. `all_columns` holds included ones too."""

    name: str
    method: str
    arbitrates: bool
    key_columns: tuple[str, ...]
    all_columns: tuple[str, ...]
    constraint: str | None


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    kind: str
    columns: Mapping[str, Column]
    indexes: tuple[Index, ...]


async def inspect(connection: AsyncConnection[tuple[Any, ...]]) -> dict[str, Table]:
    tables = {name: await _table(connection, name) for name in TABLES}
    return {name: table for name, table in tables.items() if table is not None}


async def _table(connection: AsyncConnection[tuple[Any, ...]], name: str) -> Table | None:
    kind = await (await connection.execute(_KIND, [name])).fetchone()
    if kind is None:
        return None
    columns = await (await connection.execute(_COLUMNS, [name])).fetchall()
    indexes = await (await connection.execute(_INDEXES, [name])).fetchall()
    return Table(
        name,
        kind[0],
        {column: Column(*rest) for column, *rest in columns},
        tuple(
            Index(index, method, arbitrates, tuple(key), tuple(every), constraint)
            for index, method, arbitrates, key, every, constraint in indexes
        ),
    )
