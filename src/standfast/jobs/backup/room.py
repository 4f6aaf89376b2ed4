"""The directory of backups while one is made: its lock, its free space, what a killed run left.

Invariant: a backup stands under its name only whole and durable; what is being made ends in `.new` and is locked by
whoever makes it, so that what nobody locks is left over and may go. All calls block, and raise `OSError` as it comes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import structlog

from standfast.errors import BackupFailed, JobRunning
from standfast.jobs.backup.catalogue import sync_directory

log = structlog.get_logger(__name__)
LOCK = ".lock"
UNFINISHED = ".new"
_LEAST_BYTES = 16_000_000


class Lock:
    """The only run in this directory, whatever database it is of. The kernel forgets it with a process that dies."""

    def __init__(self, root: Path, name: str = LOCK) -> None:
        """Acquire it. `JobRunning` where another process has it."""
        self._descriptor = os.open(root / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not _try_lock(self._descriptor):
            os.close(self._descriptor)
            raise JobRunning(
                f"another process makes a backup in {root}",
                next_step="Wait until it has ended, or give each state directory a BACKUP_ROOT of its own.",
            )

    def release(self) -> None:
        os.close(self._descriptor)


class Building:
    """A new directory that a backup is written into."""

    def __init__(self, root: Path, name: str) -> None:
        """Make it."""
        self.path = root / f"{name}{UNFINISHED}"
        self._to = root / name
        self.path.mkdir(mode=0o700)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _try_lock(self._descriptor)

    def finish(self) -> Path:
        """It stands under its name, durably."""
        os.fsync(self._descriptor)
        self.path.rename(self._to)
        sync_directory(self._to.parent)
        os.close(self._descriptor)
        return self._to

    def abandon(self) -> None:
        """It is gone, as far as the disk lets it go; the next run removes the rest."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def left_over(root: Path) -> list[str]:
    """What runs that were killed have left; what somebody writes at this moment is not among it."""
    found = sorted(root.glob(f"*{UNFINISHED}")) if root.is_dir() else []
    return [path.name for path in found if path.is_dir() and not path.is_symlink() and not _is_locked(path)]


def remove_left_over(root: Path) -> list[str]:
    """Remove it; the names."""
    names = left_over(root)
    for name in names:
        shutil.rmtree(root / name, ignore_errors=True)
        log.info("what a killed backup left was removed", name=name)
    return names


def remove(root: Path, names: list[str]) -> list[str]:
    """Remove backups; the names of those that are gone. Each loses its name first, so that none stands there half."""
    removed = []
    for name in names:
        beside = root / f"{name}.old{UNFINISHED}"
        try:
            (root / name).rename(beside)
            shutil.rmtree(beside)
        except OSError as error:
            log.warning("an old backup could not be removed", name=name, reason=error.strerror)
        else:
            removed.append(name)
    return removed


def check_free(root: Path, expected_bytes: int) -> int:
    """The free bytes. `BackupFailed` where they cannot hold what is expected."""
    free = shutil.disk_usage(root).free
    needed = max(expected_bytes, _LEAST_BYTES)
    if free < needed:
        raise BackupFailed(
            f"{root} has {free / 1e6:,.0f} MB free, and the next backup is expected to take {needed / 1e6:,.0f} MB",
            next_step="Free space there, lower BACKUP_KEEP_DAILY, or name another disk with BACKUP_ROOT.",
            free_bytes=free,
            needed_bytes=needed,
        )
    return free


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
