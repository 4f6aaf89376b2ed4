"""A folder: another disk, or one of another machine that is mounted here.

Invariant: the folder itself is never made, so that a disk that is not mounted is told of, and not written beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from standfast.errors import StandfastError
from standfast.jobs.backup.aside import begun
from standfast.jobs.backup.catalogue import sync_directory
from standfast.jobs.remotes.files import READING, WRITING, File
from standfast.jobs.remotes.remote import UNFINISHED, Beat, Remote, Stored

_THREAD = "remote-folder"


class FolderRemote(Remote):
    """Files 0600, directories 0700, each written beside and renamed."""

    @property
    def _root(self) -> Path:
        return Path(self.address.path)

    async def _store(self, name: str, chunks: AsyncIterator[bytes], size: int, beat: Beat) -> None:
        path = self._root / name
        beside = path.with_name(path.name + UNFINISHED)
        await begun(lambda: self._make_parent(path), _THREAD)
        file = await File.opened(beside, WRITING)
        try:
            async for chunk in chunks:
                await file.write(chunk)
                beat()
            await file.sync()
            beat()
            await begun(lambda: _renamed(beside, path), _THREAD)
        except asyncio.CancelledError:
            raise  # the disk may hang: nothing more is asked of it
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        finally:
            file.close()

    async def _load(self, name: str) -> AsyncGenerator[bytes]:
        await begun(self._check_root, _THREAD)
        file = await File.opened(self._root / name, READING)
        try:
            while chunk := await file.read():
                yield chunk
        finally:
            file.close()

    async def _entries(self, prefix: str, beat: Beat) -> AsyncIterator[Stored]:
        for one in await begun(lambda: self._found(prefix), _THREAD):
            yield one

    async def _remove(self, name: str) -> None:
        await begun(lambda: self._unlink(self._root / name), _THREAD)

    def _told(self, error: Exception, name: str) -> StandfastError | None:
        if not isinstance(error, OSError):
            return None
        if isinstance(error, FileNotFoundError) and error.filename != str(self._root):
            return self.absent(name)
        if error.filename == str(self._root):
            return self.failed(
                f"is not there: {self._root} is no directory that can be used ({error.strerror})",
                "Mount its disk; where it is new, make the directory once. Standfast makes only what is within it.",
            )
        return self.failed(
            f"({self._root}) failed: {error.strerror or type(error).__name__}",
            "Check the disk there: its room, its rights, and that it is mounted.",
        )

    def _check_root(self) -> None:
        os.close(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def _make_parent(self, path: Path) -> None:
        self._check_root()
        missing = [
            parent for parent in path.parents if parent.is_relative_to(self._root) and not parent.exists()
        ]
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(parent.parent)

    def _found(self, prefix: str) -> list[Stored]:
        self._check_root()
        found = []
        for folder, _, names in os.walk(self._root / prefix, onerror=_unless_gone):
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(FileNotFoundError):
                    stat = path.lstat()
                    found.append(Stored(path.relative_to(self._root).as_posix(), stat.st_size, stat.st_mtime))
        return found

    def _unlink(self, path: Path) -> None:
        self._check_root()
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self._root:
                return
            try:
                parent.rmdir()
            except OSError:  # others lie there
                return


def _renamed(beside: Path, path: Path) -> None:
    beside.rename(path)
    sync_directory(path.parent)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
