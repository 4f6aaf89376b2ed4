"""One backup made: dumped, counted and written under its name.

Invariant: dump, counts and digests are of one snapshot; whatever fails leaves nothing under a backup's name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from standfast.errors import BackupFailed, StandfastError
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Catalogue, write_private
from standfast.jobs.backup.digest import TakenContent, take_content
from standfast.jobs.backup.dump import Dump, DumpOrder
from standfast.jobs.backup.manifest import FORMAT, MANIFEST, Content, Kind, Manifest
from standfast.jobs.backup.room import Building
from standfast.jobs.backup.sealing import Sealed
from standfast.jobs.backup.snapshot import Snapshot, snapshot_of
from standfast.jobs.context import JobContext
from standfast.postgres.client_connection import client_connection
from standfast.postgres.client_tools import ClientTools
from standfast.postgres.failures import from_driver
from standfast.postgres.pool import Statement
from standfast.version import __version__

_CONTENT = "content.dump.zst"
# The row is committed before the snapshot is taken, so that each backup holds its own.
_SENTINEL = Statement(
    "backup.sentinel",
    """
    insert into standfast_backups as b (name, node) values ($1, $2::uuid)
    on conflict (name) do update set node = excluded.node, begun_at = now(), sentinel = gen_random_uuid()
    returning sentinel::text
    """,
)


@dataclass(frozen=True, slots=True)
class Making:
    """`to`: recipients of age's. `plain_bytes`: what the dump is expected to give; None: not known."""

    context: JobContext
    tools: ClientTools
    to: Sequence[Any]
    kinds: Sequence[Kind]
    stall_s: float
    plain_bytes: int | None = None


async def make(making: Making) -> Manifest:
    """The backup stands under its name. `BackupFailed` and the database's errors otherwise; then nothing does."""
    context = making.context
    root = context.settings.backup_directory
    started_at = time.time()
    name = await on_disk(lambda: Catalogue(root).free_name(started_at))
    ((sentinel,),) = await context.database.fetch(_SENTINEL, [name, context.node])
    building = await on_disk(lambda: Building(root, name), undo=Building.abandon)
    try:
        begun_s = time.monotonic()
        async with snapshot_of(context.database.options) as snapshot:
            sealed, taken = await _dumped(making, building, snapshot)
        manifest = _manifest(making, snapshot, sealed, taken)
        manifest.name, manifest.sentinel, manifest.started_at = name, sentinel, started_at
        manifest.duration_s = round(time.monotonic() - begun_s, 3)
        await on_disk(lambda: _write(building.path / MANIFEST, manifest))
        await on_disk(building.finish)
    except BaseException:
        await _abandoned(building)
        raise
    return manifest


async def _dumped(making: Making, building: Building, snapshot: Snapshot) -> tuple[Sealed, TakenContent]:
    context = making.context
    context.progress.step("dump", making.plain_bytes or snapshot.tables.bytes, "bytes")
    connection = client_connection(
        context.database.options, application_name="standfast backup", at=snapshot.endpoint
    )
    order = DumpOrder(
        program=making.tools.pg_dump,
        connection=connection,
        snapshot=snapshot.id,
        tables=tuple(part for table in snapshot.tables.tables for part in table.parts),
        target=building.path / _content_name(making),
        level=context.settings.backup_zstd_level,
        to=tuple(making.to),
    )
    dump = Dump(order, stall_s=making.stall_s, on_bytes=context.progress.advance)
    return await _both(dump.run(), _counted(context, snapshot, making.stall_s))


async def _counted(context: JobContext, snapshot: Snapshot, stall_s: float) -> TakenContent:
    """It tells nothing until it is done: while it lasts, PostgreSQL must answer somebody else."""
    counting = asyncio.ensure_future(take_content(snapshot.connection, snapshot.tables))
    answered_at = time.monotonic()
    try:
        while not counting.done():
            await asyncio.wait({counting}, timeout=stall_s / 4)
            if counting.done():
                break
            try:
                await context.database.ping()
            except StandfastError:
                if time.monotonic() - answered_at > stall_s:
                    raise
            else:
                answered_at = time.monotonic()
        return counting.result()
    except psycopg.Error as error:
        raise from_driver(error, context.database.where) from None
    finally:
        counting.cancel()


async def _both(first: Awaitable[Sealed], second: Awaitable[TakenContent]) -> tuple[Sealed, TakenContent]:
    """Both, or the failure of the one that failed first, once the other has returned its resources."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return tasks[0].result(), tasks[1].result()


async def _abandoned(building: Building) -> None:
    """In the middle of a cancellation too, and without a word of its own: what led here is what counts."""
    abandoning = asyncio.ensure_future(on_disk(building.abandon))
    await asyncio.wait({abandoning})
    abandoning.exception()


def _write(path: Path, manifest: Manifest) -> None:
    write_private(path, msgspec.json.format(msgspec.json.encode(manifest)))


def _content_name(making: Making) -> str:
    return f"{_CONTENT}.age" if making.to else _CONTENT


def _manifest(making: Making, snapshot: Snapshot, sealed: Sealed, taken: TakenContent) -> Manifest:
    content = Content(
        file=_content_name(making),
        bytes=sealed.bytes,
        sha256=sealed.sha256,
        plain_bytes=sealed.plain_bytes,
        compression="zstd",
        encrypted=bool(making.to),
    )
    missing = {table.name for table in snapshot.tables.tables} - taken.tables.keys()
    if missing:
        raise BackupFailed(f"tables were not counted: {', '.join(sorted(missing))}")
    return Manifest(
        format=FORMAT,
        name="",
        kinds=list(making.kinds),
        snapshot_at=snapshot.at,
        started_at=0.0,
        duration_s=0.0,
        node=making.context.node_name,
        standfast_version=__version__,
        schema_version=snapshot.schema_version,
        server_version=snapshot.server_version,
        client_version=making.tools.version,
        database=snapshot.database,
        sentinel="",
        content=content,
        tables=dict(taken.tables),
        companies=dict(taken.companies),
        digest=taken.digest,
        digest_method=taken.method,
        identity=snapshot.identity,
    )
