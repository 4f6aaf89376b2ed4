"""What a backup needs, found out before anything runs: server, programs, recipients; and what a run would do.

Invariant: writes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standfast.jobs.backup import room
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import Kind, Manifest
from standfast.jobs.backup.report import Plan
from standfast.jobs.backup.rotation import Dated, dated, is_first_of_month, removable
from standfast.jobs.backup.sealing import recipients
from standfast.jobs.backup.snapshot import snapshot_of
from standfast.jobs.context import JobContext
from standfast.postgres.client_tools import ClientTools, find_client_tools
from standfast.postgres.pool import Statement

_TOOLS_TIMEOUT_S = 120.0
_ABOUT = Statement(
    "backup.about",
    """
    select current_setting('server_version_num')::int / 10000, extract(epoch from now())::float8,
           (select id::text from standfast_identity)
    """,
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`to`: recipients of age's. `now` by the server's clock. `identity`: the database's own."""

    tools: ClientTools
    to: Sequence[Any]
    now: float
    identity: str


async def surroundings_of(context: JobContext) -> Surroundings:
    """`ClientToolsMismatch` where no pg_dump serves the server, `SettingsError` where a recipient is none."""
    to = recipients(context.settings)
    ((major, now, identity),) = await context.database.fetch(_ABOUT)
    tools = await on_disk(
        lambda: find_client_tools(major, context.settings.pg_bin_dir), timeout_s=_TOOLS_TIMEOUT_S
    )
    return Surroundings(tools, to, now, identity or "")


def kinds_of(kinds: Sequence[Kind], before: Sequence[Backup], surroundings: Surroundings) -> list[Kind]:
    """Those asked for, and "monthly" where the month has no good monthly one."""
    first = is_first_of_month(dated(before, surroundings.identity), surroundings.now)
    wanted: set[Kind] = {*kinds, "monthly"} if first else set(kinds)
    return sorted(wanted)


def last_good(backups: Sequence[Backup], identity: str) -> Manifest | None:
    """The manifest of the newest good backup of the database with this identity."""
    return next(
        (
            one.manifest
            for one in backups
            if one.state == "good" and one.manifest is not None and one.manifest.identity == identity
        ),
        None,
    )


async def planned(context: JobContext, kinds: Sequence[Kind]) -> Plan:
    """What a run would do now. Raises as it would."""
    surroundings = await surroundings_of(context)
    root, settings = context.settings.backup_directory, context.settings
    before = await on_disk(Catalogue(root).backups)
    async with snapshot_of(context.database.options) as snapshot:
        pass
    its_kinds = kinds_of(kinds, before, surroundings)
    last = last_good(before, surroundings.identity)
    every = [*dated(before, surroundings.identity), Dated("", surroundings.now, tuple(its_kinds), "good")]
    return Plan(
        root=str(root),
        server=context.database.where,
        server_version=snapshot.server_version,
        client_version=surroundings.tools.version,
        pg_dump=str(surroundings.tools.pg_dump),
        encrypted=bool(surroundings.to),
        kinds=its_kinds,
        tables={table.name: table.bytes for table in snapshot.tables.tables},
        expected_bytes=last.content.bytes if last else None,
        free_bytes=await on_disk(lambda: _free_bytes(root)),
        removed=removable(every, settings.backup_keep_daily, settings.backup_keep_monthly, surroundings.now),
        left_over=await on_disk(lambda: room.left_over(root)),
    )


def _free_bytes(root: Path) -> int | None:
    return shutil.disk_usage(root).free if root.is_dir() else None
