"""A file of this machine, or of one mounted here, read and written beside the event loop.

Invariant: a call that was given up on, the disk hanging, still has its descriptor to itself until it returns.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from standfast.jobs.backup.aside import begun

CHUNK_BYTES = 1 << 20
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_THREAD = "remote-file"


class File:
    """One call at a time. All raise `OSError`, and have no deadline of their own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._used = threading.Lock()

    @classmethod
    async def opened(cls, path: Path, flags: int) -> File:
        """New files are 0600."""
        return cls(await begun(lambda: os.open(path, flags, 0o600), _THREAD))

    async def size(self) -> int:
        """Bytes."""
        return await begun(lambda: os.fstat(self._descriptor).st_size, _THREAD)

    async def read(self) -> bytes:
        """The next piece; b"" at the end."""
        return await begun(self._read, _THREAD)

    async def write(self, data: bytes) -> None:
        """All of `data`."""
        await begun(lambda: self._write(data), _THREAD)

    async def sync(self) -> None:
        """What was written is durable."""
        await begun(self._sync, _THREAD)

    def close(self) -> None:
        """At once, or as soon as the last call has returned."""
        if self._used.acquire(blocking=False):
            os.close(self._descriptor)
        else:
            threading.Thread(target=self._close_later, name=_THREAD, daemon=True).start()

    def _read(self) -> bytes:
        with self._used:
            return os.read(self._descriptor, CHUNK_BYTES)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        with self._used:
            while left:
                left = left[os.write(self._descriptor, left) :]

    def _sync(self) -> None:
        with self._used:
            os.fsync(self._descriptor)

    def _close_later(self) -> None:
        with self._used:
            os.close(self._descriptor)
