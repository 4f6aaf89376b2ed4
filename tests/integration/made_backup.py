"""A backup for tests, as the engine makes it, without its checks."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import msgspec

from standfast.jobs.backup import sealing
from standfast.jobs.backup.catalogue import Catalogue
from standfast.jobs.backup.digest import DIGEST_METHOD, take_content
from standfast.jobs.backup.manifest import Content, Manifest
from standfast.jobs.backup.tables import our_tables
from standfast.postgres.client_tools import find_client_tools
from standfast.postgres.pool import Database
from standfast.settings import Settings


async def made_backup(settings: Settings, database: Database) -> str:
    """Its name."""
    catalogue = Catalogue(settings.backup_directory)
    catalogue.prepare()
    name = catalogue.free_name(time.time())
    tools = find_client_tools(18)
    async with database.transaction("test.content", 10) as connection:
        content = await take_content(connection)
        tables = await our_tables(connection)
        ((identity,),) = await (
            await connection.execute("select id::text from standfast_identity")
        ).fetchall()
    place = catalogue.root / name
    place.mkdir(0o700)
    sealed = await asyncio.to_thread(_dump, place / "content.dump.zst", tools.pg_dump, database)
    manifest = Manifest(
        1, name, ["daily"], time.time(), time.time(), 0.1, "one", "0", 6, "18.4", tools.version, "test", "none",
        Content("content.dump.zst", sealed.bytes, sealed.sha256, sealed.plain_bytes, "zstd"),
        dict(content.tables), dict(content.companies), content.digest, DIGEST_METHOD,
    )  # fmt: skip
    del identity, tables
    (place / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return name


def _dump(target: Path, pg_dump: Path, database: Database) -> sealing.Sealed:
    command = [
        str(pg_dump),
        "-Fc",
        "-Z0",
        "-t",
        "whatsapp_*",
        "-t",
        "standfast_*",
        database.options.to_conninfo(),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        sealed = sealing.seal(process.stdout, target, level=3)
    assert process.returncode == 0
    return sealed
