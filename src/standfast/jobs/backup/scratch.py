"""A throwaway PostgreSQL server, for what is restored only to be looked at.

Invariant: it is reached by its socket alone, by this user alone, and whatever it left behind when its owner was killed
is removed before the next one of its purpose starts. One at a time for each purpose and directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from standfast.errors import BackupFailed, JobRunning
from standfast.jobs.backup.catalogue import Catalogue
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.processes import end, working_in
from standfast.postgres.server_binaries import server_binaries
from standfast.postgres.server_files import make_private, socket_directory

STATEMENT_TIMEOUT_S = 3_600.0
_ROOM_FACTOR = 2.5  # rows, their indexes and the log, against pg_dump's text
_ROOM_LEAST_BYTES = 150_000_000
_LEFT_STEPS = ((signal.SIGINT, 3.0), (signal.SIGKILL, 2.0))
_TUNING = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True)
class Scratch:
    """`directory` is for whatever else the work needs, and goes with the server; sockets can lie in it. `major`: the
    server's version."""

    options: DatabaseOptions
    directory: Path
    major: int


@contextlib.asynccontextmanager
async def scratch_server(
    root: Path, purpose: str, major: int, *, plain_bytes: int, bin_dir: Path | None = None
) -> AsyncIterator[Scratch]:
    """An empty server of version `major`, or of the embedded, newer one, on the disk of the backups in `root`, which
    must have room for `plain_bytes` of pg_dump's output. `JobRunning` where another process has one of that purpose."""
    await asyncio.to_thread(Catalogue(root).prepare)
    directory = root / f".scratch-{purpose}"
    with _claimed(directory):
        await remove_left(directory)
        _check_room(root, plain_bytes)
        binaries = await asyncio.to_thread(server_binaries, major, bin_dir)
        make_private(directory)
        try:
            server = EmbeddedServer(directory, durable=False, binaries=binaries, tuning=_TUNING)
            async with server:
                options = replace(server.options, statement_timeout_s=STATEMENT_TIMEOUT_S)
                yield Scratch(options, _short(directory), binaries.major)
        finally:
            await remove_left(directory)


async def remove_left(directory: Path) -> None:
    """End what still runs in a scratch directory, and remove it."""
    data = directory / "postgres"
    if data.exists():
        await end(working_in(data), _LEFT_STEPS)
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    sockets = socket_directory(directory)
    if sockets.parent != directory:
        shutil.rmtree(sockets, ignore_errors=True)


def _short(directory: Path) -> Path:
    sockets = socket_directory(directory)
    return directory if sockets.parent == directory else sockets


@contextlib.contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    path = directory.with_name(f"{directory.name}.lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JobRunning(
                f"another process works in {directory} already",
                next_step="Wait until it has ended.",
            ) from None
        yield
    finally:
        os.close(lock)


def _check_room(root: Path, plain_bytes: int) -> None:
    needed = max(int(plain_bytes * _ROOM_FACTOR), _ROOM_LEAST_BYTES)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise BackupFailed(
            f"a throwaway server needs {needed // 1_000_000:,} MB beside the backups in {root}, and "
            f"{free // 1_000_000:,} MB are free",
            next_step="Free disk space there, or name a directory on a larger disk with BACKUP_ROOT.",
        )
