"""The functions that the migrations make, for tables that came without them.

Invariant: nothing of a migration but its functions is applied, and all of them or none.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection

from standfast.postgres.migrations.ledger import NUMBERED, applied_versions

_APART = "standfast_functions_of"
_DEFINED = (
    f"select pg_get_functiondef(oid) from pg_proc where pronamespace = '{_APART}'::regnamespace order by oid"
)


async def create_functions(connection: AsyncConnection[tuple[Any, ...]]) -> int:
    """Make what pg_dump leaves behind where it is told to take tables: the functions of the version that these tables
    have. How many there are now. The connection's search path finds the tables."""
    version = max(await applied_versions(connection), default=0)
    if version == 0:
        return 0
    definitions = await _definitions(connection, version)
    (schema,) = await _row(connection, "select current_schema()")
    quoted = '"' + str(schema).replace('"', '""') + '"'
    async with connection.transaction():
        for definition in definitions:
            made = definition.replace(f"FUNCTION {_APART}.", f"FUNCTION {quoted}.", 1)
            await connection.execute(made.encode())
    return len(definitions)


async def _definitions(connection: AsyncConnection[tuple[Any, ...]], version: int) -> list[str]:
    """They are made in a schema of their own beside empty tables, read, and rolled back."""
    async with connection.transaction(force_rollback=True):
        await connection.execute(f"create schema {_APART}".encode())
        await connection.execute(f"set local search_path = {_APART}".encode())
        for number in NUMBERED:
            if number.version <= version:
                await connection.execute(number.sql.encode(), prepare=False)
        return [row[0] for row in await (await connection.execute(_DEFINED.encode())).fetchall()]


async def _row(connection: AsyncConnection[tuple[Any, ...]], query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row
