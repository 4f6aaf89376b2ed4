"""One moment of a database, held while a backup is made of it.

Invariant: whatever reads under the snapshot sees the same rows; the connection that holds it is no pool's, and every
statement on it has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.jobs.backup.tables import Tables, our_tables
from standfast.postgres.client_connection import Endpoint
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.failures import from_driver, timed_out
from standfast.postgres.options import DatabaseOptions

TIMEOUT_S = 30.0
_LIMITS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "idle_session_timeout",
)
# What a session of the role's or the server's own may limit must not end a dump half-way.
_UNLIMIT = f"select set_config(name, '0', true) from pg_settings where name in {_LIMITS}"
_ABOUT = """
select pg_export_snapshot(), extract(epoch from now())::float8, pg_backend_pid(), current_setting('server_version'),
       current_setting('server_version_num')::int / 10000, current_database()::text
"""
_SCHEMA = "select max(version) from standfast_migrations"
_IDENTITY = "select id::text from standfast_identity"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`at`: by the server's clock, in seconds since 1970. `endpoint`: the one server that knows it."""

    connection: BoundedConnection
    id: str
    at: float
    server_version: str
    server_major: int
    database: str
    schema_version: int
    identity: str
    endpoint: Endpoint
    tables: Tables


@contextlib.asynccontextmanager
async def snapshot_of(options: DatabaseOptions) -> AsyncIterator[Snapshot]:
    """Held until the block ends. Raises like every database call; `DatabaseRejected` where something stands between
    that shares connections, or where the tables are missing."""
    where = options.describe()
    connection = await BoundedConnection.connect(
        options.to_conninfo(),
        deadline_s=options.connect_deadline_s(),
        where=where,
        on_failure=lambda _error: None,
        autocommit=True,
        prepare_threshold=None,
    )
    try:
        yield await _begun(connection, where)
    finally:
        connection.abandon()


async def _begun(connection: BoundedConnection, where: str) -> Snapshot:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await connection.execute("begin transaction isolation level repeatable read read only")
            row = await _row(connection, _ABOUT)
            if connection.pgconn.backend_pid != row[2]:
                raise _pooled(where)
            await connection.execute(_UNLIMIT.encode())
            tables = await our_tables(connection)
            if not tables.has_auth_state:
                raise DatabaseRejected(
                    f"there are no tables whatsapp_auth and whatsapp_keys at {where}",
                    next_step="Check DATABASE_URL and the search_path; 'standfast migrate' makes the tables.",
                    cause="schema",
                )
            (version,), (identity,) = await _row(connection, _SCHEMA), await _row(connection, _IDENTITY)
    except TimeoutError:
        raise timed_out(where, "taking a snapshot", TIMEOUT_S) from None
    except psycopg.Error as error:
        raise from_driver(error, where) from None
    info = connection.info
    return Snapshot(
        connection=connection,
        id=row[0],
        at=row[1],
        server_version=row[3],
        server_major=row[4],
        database=row[5],
        schema_version=version or 0,
        identity=identity,
        endpoint=Endpoint(info.host, info.hostaddr, info.port),
        tables=tables,
    )


async def _row(connection: BoundedConnection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    return row or (None,)


def _pooled(where: str) -> DatabaseUnavailable | DatabaseRejected:
    return DatabaseRejected(
        f"something stands between here and PostgreSQL and shares its connections (PgBouncer?) at {where}: a backup "
        "needs PostgreSQL itself",
        next_step="Name PostgreSQL itself in DATABASE_URL; Standfast pools by itself.",
        cause="transaction_pooling",
    )
