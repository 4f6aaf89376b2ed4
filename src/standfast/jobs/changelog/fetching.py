"""Segments brought back from a remote.

Invariant: what lies here is never replaced; a file stands under its name only once it is whole.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec

from standfast.errors import BackupFailed
from standfast.jobs.changelog.folder import CHANGES, DROPPED, Dropped, Folder, folders, is_segment, span_of
from standfast.jobs.changelog.sealing import Opener
from standfast.jobs.changelog.verify import Verified, verify_folders
from standfast.jobs.progress import Progress, Silent
from standfast.jobs.remotes.opening import opened_remotes
from standfast.jobs.remotes.remote import Remote
from standfast.settings import Settings

_DROPPED_BYTES = 2**20


class Fetched(msgspec.Struct):
    """`there` files the remote has, of which `fetched` were lacking here; `nodes` whose they are."""

    remote: str
    there: int = 0
    fetched: int = 0
    bytes: int = 0
    nodes: list[str] = []


async def fetch(
    settings: Settings, remote: str, root: Path | None = None, progress: Progress | None = None
) -> Fetched:
    """Bring what this machine lacks of every node's log to `root` (the backup directory). `NotFound` where no remote
    has that name; `RemoteFailed`, `BackupFailed`; what was brought by then stays."""
    async with opened_remotes(settings, remote) as (one,):
        return await _fetch(one, root or settings.backup_directory, progress or Silent())


async def verify_remote(settings: Settings, remote: str, progress: Progress | None = None) -> Verified:
    """As `verify`, of what a remote has; needs room for it below the backup directory meanwhile."""
    try:
        settings.backup_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".verify-", dir=settings.backup_directory) as name:
            await fetch(settings, remote, Path(name), progress)
            found = folders(Path(name))
            return await asyncio.to_thread(verify_folders, found, Opener.of(settings))
    except OSError as error:
        raise BackupFailed(f"{settings.backup_directory} cannot be written: {error.strerror}") from error


async def _fetch(remote: Remote, root: Path, progress: Progress) -> Fetched:
    done = Fetched(remote.name)
    stored = await remote.list(f"{CHANGES}/")
    names: dict[str, list[tuple[str, int]]] = {}
    dropping: set[str] = set()  # the nodes of which it is known what retention has dropped
    for one in stored:
        node, _, name = one.name.removeprefix(f"{CHANGES}/").partition("/")
        if name == DROPPED:
            dropping.add(node)
        elif is_segment(name):
            names.setdefault(node, []).append((name, one.bytes))
    done.there, done.nodes = sum(map(len, names.values())), sorted(names)
    progress.step(f"fetching from {remote.name}", sum(one.bytes for one in stored), "bytes")
    for node, files in names.items():
        folder = Folder(root / CHANGES / node)
        try:
            await asyncio.to_thread(folder.prepare)
            if node in dropping:
                await _take_over(remote, folder)
        except OSError as error:
            raise BackupFailed(f"{folder.path} cannot be written: {error.strerror}") from error
        for name, size in _lacking(folder, files):
            await remote.get(f"{CHANGES}/{node}/{name}", folder.path / name)
            done.fetched += 1
            done.bytes += size
            progress.advance(size)
    return done


def _lacking(folder: Folder, files: list[tuple[str, int]]) -> list[tuple[str, int]]:
    here = [(file.first, file.last) for file in folder.files()]
    found = []
    for name, size in files:
        first, last, _ = span_of(name)
        if not any(begin <= first and last <= end for begin, end in here):
            found.append((name, size))
    return found


async def _take_over(remote: Remote, folder: Folder) -> None:
    """What retention has dropped there is not missing here."""
    content = await remote.read(f"{CHANGES}/{folder.node}/{DROPPED}", _DROPPED_BYTES)
    known = folder.dropped()
    for first, last in msgspec.json.decode(content, type=Dropped).ranges:
        known.add(first, last)
    await asyncio.to_thread(folder.note_dropped, known)
