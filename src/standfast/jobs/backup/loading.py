"""Loading a backup into an empty database, as it was.

Invariant: the tables are those of the archive, with its types, columns and schemas, and Standfast's functions those of
their version; a database that has any of our tables is refused before anything is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from standfast.errors import BackupDamaged, RestoreRefused
from standfast.jobs.backup.archive_reader import Ran, contents_of, feed, head_of, tools_for
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.tables import our_tables, quoted
from standfast.jobs.progress import Progress, Silent
from standfast.postgres.client_connection import client_connection
from standfast.postgres.client_tools import ClientTools
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.migrations.functions import create_functions
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings

_TIMEOUT_S = 60.0
STALL_S = 900.0  # the index of a large table is built at the end, and nothing is heard meanwhile
_TABLE = re.compile(
    r"^\d+; \d+ \d+ TABLE (?!DATA )(.+) (whatsapp_auth|whatsapp_keys|standfast_\w+) ", re.MULTILINE
)
# pg_restore sets it since version 17 whatever the server is, and tells servers before that an error that means nothing.
_FIRST_WITH_TRANSACTION_TIMEOUT = 17
_HARMLESS = re.compile(r'unrecognized configuration parameter "transaction_timeout"')
_IGNORED = re.compile(r"errors ignored on restore: (\d+)")
_PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Loaded:
    """`options` find the tables, in whatever schema they were. `tables` in the archive."""

    options: DatabaseOptions
    tables: tuple[str, ...]


async def load_into(
    options: DatabaseOptions, backup: Backup, settings: Settings, progress: Progress | None = None
) -> Loaded:
    """Load a backup into the empty database of `options`. `RestoreRefused` where it holds our tables, `BackupDamaged`
    where the backup cannot be loaded whole, `DatabaseUnavailable` and its like from the server. Takes minutes where
    there are many millions of keys; ends where nothing moves for `STALL_S`."""
    manifest, progress = backup.manifest, progress or Silent()
    assert manifest is not None, "a backup that cannot be read has no content"
    major = await _server_major(options)
    tools = await asyncio.to_thread(tools_for, manifest, settings, major)
    head = await head_of(backup, settings)
    found = _TABLE.findall(await contents_of(head, tools.pg_restore))
    schemas = list(dict.fromkeys(schema for schema, _ in found))
    loaded = Loaded(_with_search_path(options, schemas), tuple(sorted(name for _, name in found)))
    await _prepare(loaded.options, schemas)
    progress.step("loading it", manifest.content.plain_bytes, "bytes")
    await _restore(backup, settings, options, tools, major, progress)
    async with _transaction(loaded.options, "load.functions") as connection:
        await create_functions(connection)
    return loaded


async def _restore(
    backup: Backup,
    settings: Settings,
    options: DatabaseOptions,
    tools: ClientTools,
    major: int,
    progress: Progress,
) -> None:
    told = client_connection(options, application_name="standfast-restore")
    speaks_to_older = tools.major >= _FIRST_WITH_TRANSACTION_TIMEOUT > major
    ran, _ = await feed(
        backup,
        settings,
        [
            tools.pg_restore,
            "--no-owner",
            "--no-privileges",
            "--no-comments",
            *(() if speaks_to_older else ("--single-transaction",)),
            f"--dbname={told.conninfo}",
        ],
        stall_s=STALL_S,
        environment=told.environment,
        on_bytes=progress.advance,
    )
    if ran.code != 0 and not (speaks_to_older and _only_harmless(ran)):
        raise BackupDamaged(f"{backup.name} could not be loaded: {ran.said[:500]}")


def _only_harmless(ran: Ran) -> bool:
    ignored = _IGNORED.search(ran.said)
    return ignored is not None and int(ignored[1]) == len(_HARMLESS.findall(ran.said))


async def _prepare(options: DatabaseOptions, schemas: list[str]) -> None:
    async with _transaction(options, "load.prepare") as connection:
        present = await our_tables(connection)
        if present.tables:
            names = ", ".join(table.name for table in present.tables[:3])
            raise RestoreRefused(
                f"the database is not empty: it has {names}",
                next_step="Name an empty database; nothing was changed in this one.",
            )
        for schema in schemas:
            if schema != _PUBLIC:
                await connection.execute(f"create schema if not exists {quoted(schema)}".encode())


async def _server_major(options: DatabaseOptions) -> int:
    async with _transaction(options, "load.version") as connection:
        return connection.info.server_version // 10_000


def _with_search_path(options: DatabaseOptions, schemas: list[str]) -> DatabaseOptions:
    """libpq splits the value at blanks, and a backslash takes what follows as it stands."""
    if schemas in ([], [_PUBLIC]):
        return options
    path = ",".join(quoted(schema) for schema in schemas)
    value = path.replace("\\", "\\\\").replace(" ", "\\ ")
    given = conninfo_to_dict(options.conninfo or "")
    session = f"{given.pop('options', '') or ''} -c search_path={value}".strip()
    return replace(options, conninfo=make_conninfo("", **given, options=session))


@contextlib.asynccontextmanager
async def _transaction(options: DatabaseOptions, name: str) -> AsyncIterator[BoundedConnection]:
    async with (
        Database(options, NOBODY.queries) as database,
        database.transaction(name, _TIMEOUT_S) as connection,
    ):
        yield connection
