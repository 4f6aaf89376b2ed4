"""Adopting the tables that Node bots made: what is missing is added, what cannot work is named.

Invariant: nothing of the bot's is dropped or changed, and an incompatible table is refused before any change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from psycopg import AsyncConnection

from standfast.errors import DatabaseRejected
from standfast.postgres.migrations.catalog import Index, Table
from standfast.postgres.migrations.plan import Notice, Step

_TEXT = frozenset({"text", "character varying"})
_JSON = frozenset({"jsonb", "json", "text", "character varying"})
_TIME = frozenset({"timestamp with time zone", "timestamp without time zone"})
_NOW = "timestamptz NOT NULL DEFAULT now()"
_BTREE_LIMIT_BYTES = 2704


@dataclass(frozen=True, slots=True)
class Shape:
    """What Standfast needs of a table. `added` columns may be missing; `data` is the one that may be large."""

    required: dict[str, frozenset[str]]
    added: dict[str, str]
    unique: tuple[str, ...]
    data: str


_SHAPES = {
    "whatsapp_auth": Shape(
        required={"company_id": _TEXT, "creds": _JSON},
        added={"created_at": _NOW, "updated_at": _NOW},
        unique=("company_id",),
        data="creds",
    ),
    "whatsapp_keys": Shape(
        required={"company_id": _TEXT, "key_type": _TEXT, "key_id": _TEXT, "value": _JSON},
        added={"created_at": _NOW, "updated_at": _NOW, "expires_at": "timestamptz NULL"},
        unique=("company_id", "key_type", "key_id"),
        data="value",
    ),
}


@dataclass(frozen=True, slots=True)
class Adoption:
    steps: tuple[Step, ...]
    notices: tuple[Notice, ...]


async def adopt(connection: AsyncConnection[tuple[Any, ...]], tables: dict[str, Table]) -> Adoption:
    """What the tables that exist lack. `DatabaseRejected` names table, column and what to do about it."""
    steps: list[Step] = []
    notices: list[Notice] = []
    for name, table in tables.items():
        shape = _SHAPES[name]
        _check(table, shape)
        steps += _missing_columns(table, shape)
        steps += await _missing_unique(connection, table, shape)
        notices += [_harmful(table, index, shape) for index in table.indexes if _limits_rows(index, shape)]
        notices += _narrow_columns(table)
    return Adoption(tuple(steps), tuple(notices))


def _check(table: Table, shape: Shape) -> None:
    if table.kind not in {"r", "p"}:
        _refuse(f"{table.name} is not a table", f"Rename the view; '{table.name}' is made as a table.")
    for name, types in shape.required.items():
        if name not in table.columns:
            _refuse(f"table {table.name} has no column {name}", _rename_step(table, name))
        _check_type(table, name, types)
    for name in shape.added.keys() & table.columns.keys():
        _check_type(table, name, _TIME)
    for name, column in table.columns.items():
        known = name in shape.required or name in shape.added
        if column.not_null and not column.fills_itself and not known:
            _refuse(
                f"table {table.name} demands a value for {name}, a column that Standfast does not know",
                f"ALTER TABLE {table.name} ALTER COLUMN {_quoted(name)} DROP NOT NULL; or give it a DEFAULT.",
            )


def _check_type(table: Table, name: str, types: frozenset[str]) -> None:
    found = table.columns[name].type
    if found in types:
        return
    _refuse(
        f"{table.name}.{name} is {found}; Standfast needs {' or '.join(sorted(types))}",
        f"Copy it: ALTER TABLE {table.name} RENAME COLUMN {name} TO {name}_old; add {name} in the right type, fill it.",
    )


def _missing_columns(table: Table, shape: Shape) -> list[Step]:
    return [
        Step(f"add {table.name}.{name}", f"ALTER TABLE {table.name} ADD COLUMN {name} {definition}")
        for name, definition in shape.added.items()
        if name not in table.columns
    ]


async def _missing_unique(
    connection: AsyncConnection[tuple[Any, ...]], table: Table, shape: Shape
) -> list[Step]:
    if any(index.arbitrates and set(index.key_columns) == set(shape.unique) for index in table.indexes):
        return []
    columns = ", ".join(shape.unique)
    grouped = f"select 1 from {table.name} group by {columns} having count(*) > 1"
    row = await (await connection.execute(f"select count(*) from ({grouped}) d")).fetchone()
    if row is not None and row[0]:
        _refuse(
            f"table {table.name} holds {row[0]} groups of rows that are the same in {columns}",
            f"Keep one row of each: SELECT {columns} FROM {table.name} GROUP BY {columns} HAVING count(*) > 1;",
        )
    index = f"standfast_{table.name}_unique"
    return [
        Step(
            f"make {table.name} unique by {columns}",
            f"CREATE UNIQUE INDEX {index} ON {table.name} ({columns})",
        )
    ]


def _limits_rows(index: Index, shape: Shape) -> bool:
    return index.method == "btree" and shape.data in index.all_columns


def _harmful(table: Table, index: Index, shape: Shape) -> Notice:
    command = (
        f"ALTER TABLE {table.name} DROP CONSTRAINT {_quoted(index.constraint)};"
        if index.constraint
        else f"DROP INDEX CONCURRENTLY {_quoted(index.name)};"
    )
    return Notice(
        f"index {index.name} of {table.name} holds {shape.data}: rows over {_BTREE_LIMIT_BYTES} bytes are refused, "
        "and sessions grow beyond that",
        f"After this migration: {command}",
    )


def _narrow_columns(table: Table) -> list[Notice]:
    return [
        Notice(
            f"{table.name}.{name} is {column.full_type}: longer values are refused",
            f"ALTER TABLE {table.name} ALTER COLUMN {name} TYPE text;",
        )
        for name, column in table.columns.items()
        if name in {"company_id", "key_id", "key_type", "value", "creds"}
        and column.full_type.startswith("character varying(")
        and (name in {"value", "creds"} or int(column.full_type[18:-1]) < _ROOM[name])
    ]


_ROOM = {"company_id": 50, "key_type": 40, "key_id": 128}


def _rename_step(table: Table, name: str) -> str:
    has = ", ".join(sorted(table.columns))
    return (
        f"It has: {has}. If one of these is meant: ALTER TABLE {table.name} RENAME COLUMN … TO {name}; "
        f"else move the table away: ALTER TABLE {table.name} RENAME TO {table.name}_old;"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _refuse(message: str, next_step: str) -> NoReturn:
    raise DatabaseRejected(message, next_step=next_step, cause="incompatible_table")
