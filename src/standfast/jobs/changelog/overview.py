"""What the change log holds, in figures.

Invariant: it is told from names and headers alone; nothing is decrypted.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from standfast.errors import StandfastError
from standfast.jobs.changelog.folder import File, Folder, folders
from standfast.jobs.changelog.segment import open_segment
from standfast.settings import Settings


class NodeLog(msgspec.Struct):
    """One node's part. `since` and `until`: when its oldest and newest segments were closed."""

    node: str
    node_name: str = ""
    segments: int = 0
    files: int = 0
    bytes: int = 0
    first: int = 0
    last: int = 0
    since: float | None = None
    until: float | None = None
    companies: list[str] = []
    gaps: int = 0
    error: str = ""


async def overview(settings: Settings, root: Path | None = None) -> list[NodeLog]:
    """Each node's log below `root` (the backup directory). `BackupFailed` where that cannot be read."""
    found = folders(root or settings.backup_directory)
    return [await asyncio.to_thread(_of, folder) for folder in found]


def _of(folder: Folder) -> NodeLog:
    log, files = NodeLog(folder.node), folder.files()
    if not files:
        return log
    log.files, log.first, log.last = len(files), files[0].first, files[-1].last
    log.segments = sum(file.last - file.first + 1 for file in files)
    log.bytes = sum(_size(file) for file in files)
    companies: set[str] = set()
    try:
        for file in files:
            for place in folder.places(file):
                header = open_segment(place).header
                log.since = header.closed_at if log.since is None else log.since
                log.until, log.node_name = header.closed_at, header.node_name
                companies.update(header.blocks)
                log.gaps += sum(len(block.gaps) for block in header.blocks.values())
    except StandfastError as error:
        log.error = error.message
    log.companies = sorted(companies)
    return log


def _size(file: File) -> int:
    try:
        return file.path.stat().st_size
    except OSError:
        return 0  # packed just now
