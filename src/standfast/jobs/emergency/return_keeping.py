"""What loses in a conflict, kept before anything of it is touched.

Invariant: it lies in the archive as a folder, or as a file where no folder can hold it; nothing here removes one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from standfast.errors import EmergencyFailed, StateDirectoryError
from standfast.jobs.context import JobContext
from standfast.jobs.emergency.return_node import ReturnNode
from standfast.jobs.restore.keeping import Keeper
from standfast.jobs.restore.plan import Planned


async def keep_theirs(context: JobContext, company: str) -> str | None:
    """What PostgreSQL has of it; where that lies now. None: it has nothing."""
    keeper = Keeper(_archive(context), context.database, None)
    try:
        kept = await keeper.keep(Planned(company, "rolled back"))
    except StateDirectoryError as error:
        raise EmergencyFailed(error.message, next_step="Free disk space; then run it again.") from error
    return str(kept) if kept else None


async def keep_ours(context: JobContext, node: ReturnNode, company: str) -> str | None:
    """What the node has of it; where that lies now. None: it has no whole state."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    archive = _archive(context)
    try:
        await asyncio.to_thread(archive.mkdir, 0o700, True, True)
    except OSError as error:
        raise EmergencyFailed(
            f"{archive} cannot be made: {error.strerror}", next_step="Free disk space; then run it again."
        ) from error
    folder = archive / f"{company}-{stamp}-given-up"
    return str(folder) if await node.keep(company, folder) else None


def _archive(context: JobContext) -> Path:
    return context.settings.state_dir / "archive"
