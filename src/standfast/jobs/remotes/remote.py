"""A place that takes files: what every kind of it can do.

Invariant: a name holds a whole file or nothing; every call ends, at the latest `timeout_s` after the last byte that
moved; what fails is a `RemoteFailed` without a secret, and absence is `NotFound`, never an empty file.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from standfast.errors import BackupDamaged, NotFound, RemoteFailed, StandfastError
from standfast.jobs.backup.aside import begun, disk_failed
from standfast.jobs.backup.catalogue import sync_directory
from standfast.jobs.remotes.files import READING, WRITING, File
from standfast.settings.remotes import RemoteAddress

UNFINISHED = ".part"
"""What a name ends in while it is written, where the place itself does not hide it."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_PREFIX = re.compile(rf"({_NAME.pattern}/)?")

Beat = Callable[[], None]
"""Called whenever something has moved."""


@dataclass(frozen=True, slots=True)
class Stored:
    """`at`: by the place's clock, in seconds since 1970."""

    name: str
    bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class Checked:
    """Of what was sent or read, every byte of it."""

    bytes: int
    sha256: str


def silent(_count: int) -> None:
    """Nobody counts the bytes."""


class Remote(abc.ABC):
    """For one event loop; calls may run side by side, and share connections. Names are parts joined by '/', of letters,
    digits, '.', '_' and '-'."""

    def __init__(self, address: RemoteAddress) -> None:
        self.address = address

    @property
    def name(self) -> str:
        """By which operators know it."""
        return self.address.name

    async def put(self, name: str, path: Path, *, on_bytes: Callable[[int], None] = silent) -> Checked:
        """Store the file `path` as `name`, in the place of what was there; what was sent. `BackupDamaged` where `path`
        cannot be read."""
        _check(name, _NAME)
        source = _Source(path, on_bytes)
        try:
            async with (
                self._deadline(name) as beat,
                source.read(beat),
                contextlib.aclosing(source.chunks()) as chunks,
            ):
                await self._store(name, chunks, source.size, beat)
        except StandfastError:
            if source.failure is not None:
                raise source.failure from None
            raise
        return source.checked

    async def read_back(self, name: str, *, on_bytes: Callable[[int], None] = silent) -> Checked:
        """The checksum of what lies there, by reading all of it. `NotFound` where nothing does."""
        digest, count = hashlib.sha256(), 0
        async with contextlib.aclosing(self.chunks(name)) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                count += len(chunk)
                on_bytes(len(chunk))
        return Checked(count, digest.hexdigest())

    async def read(self, name: str, limit_bytes: int) -> bytes:
        """All of a small file. `NotFound` where there is none, `RemoteFailed` where it is larger than that."""
        found = bytearray()
        async with contextlib.aclosing(self.chunks(name)) as chunks:
            async for chunk in chunks:
                found += chunk
                if len(found) > limit_bytes:
                    raise RemoteFailed(
                        f"{name} of the remote {self.name} is larger than {limit_bytes:,} bytes, and should not be"
                    )
        return bytes(found)

    async def get(self, name: str, path: Path, *, on_bytes: Callable[[int], None] = silent) -> Checked:
        """Write it to `path` (0600, beside and renamed, durable), in the place of what was there. `NotFound` where
        there is none; then, and where it fails, `path` is as it was. `BackupFailed` where it cannot be written."""
        beside = path.with_name(f".{path.name}{UNFINISHED}")
        digest, count = hashlib.sha256(), 0
        try:
            file = await File.opened(beside, WRITING)
            try:
                async with contextlib.aclosing(self.chunks(name)) as chunks:
                    async for chunk in chunks:
                        await file.write(chunk)
                        digest.update(chunk)
                        count += len(chunk)
                        on_bytes(len(chunk))
                await file.sync()
                beside.rename(path)
                await begun(lambda: sync_directory(path.parent), "remote-file")
            finally:
                file.close()
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise disk_failed(error) from error
        return Checked(count, digest.hexdigest())

    async def chunks(self, name: str) -> AsyncGenerator[bytes]:
        """What lies there, piece by piece. `NotFound` where nothing does. Close it (`contextlib.aclosing`)."""
        _check(name, _NAME)
        pieces = self._load(name)
        try:
            while True:
                async with self._deadline(name):
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
        finally:
            async with self._deadline(name):
                await pieces.aclose()

    async def list(self, prefix: str = "", *, unfinished: bool = False) -> list[Stored]:
        """What lies below `prefix` ("" or a folder's name with a '/' at its end), by name. `unfinished`: what was being
        written when its writer stopped, or is being written now, and nothing else."""
        _check(prefix, _PREFIX)
        async with self._deadline() as beat:
            found = [one async for one in self._entries(prefix, beat)]
        chosen = (one for one in found if one.name.endswith(UNFINISHED) == unfinished)
        return sorted(chosen, key=lambda one: one.name)

    async def delete(self, name: str) -> None:
        """Nothing lies there afterwards."""
        _check(name, _NAME)
        async with self._deadline():
            await self._remove(name)

    async def close(self) -> None:  # noqa: B027 - not every kind has connections
        """Give connections back; the next call opens new ones."""

    @abc.abstractmethod
    async def _store(self, name: str, chunks: AsyncIterator[bytes], size: int, beat: Beat) -> None: ...

    @abc.abstractmethod
    def _load(self, name: str) -> AsyncGenerator[bytes]: ...

    @abc.abstractmethod
    def _entries(self, prefix: str, beat: Beat) -> AsyncIterator[Stored]: ...

    @abc.abstractmethod
    async def _remove(self, name: str) -> None: ...

    @abc.abstractmethod
    def _told(self, error: Exception, name: str) -> StandfastError | None:
        """The error in our words; None where it is none of this place's."""

    @contextlib.asynccontextmanager
    async def _deadline(self, name: str = "") -> AsyncIterator[Beat]:
        timeout_s, loop = self.address.timeout_s, asyncio.get_running_loop()

        def beat() -> None:
            if not deadline.expired():
                deadline.reschedule(loop.time() + timeout_s)

        try:
            async with asyncio.timeout(timeout_s) as deadline:
                yield beat
        except StandfastError:
            raise
        except TimeoutError as error:
            await self._abandon()
            told = None if deadline.expired() else self._told(error, name)
            raise told or self.failed(
                f"did not answer within {timeout_s:g} s",
                "Check the network to it; where it is only slow, raise timeout_s= of it in BACKUP_REMOTES.",
            ) from None
        except Exception as error:
            told = self._told(error, name)
            if told is None:
                raise
            raise told from None

    async def _abandon(self) -> None:  # noqa: B027 - not every kind has connections
        """A call did not end in time: whatever it used is not to be used again."""

    def failed(self, what: str, next_step: str | None = None) -> RemoteFailed:
        """The sentence "the remote NAME what"."""
        return RemoteFailed(f"the remote {self.name} {what}", next_step=next_step, remote=self.name)

    def absent(self, name: str) -> NotFound:
        """Nothing lies under that name."""
        return NotFound(
            f"the remote {self.name} has no {name}",
            next_step="See what it has: standfast backup remotes",
        )


class _Source:
    """A file of ours on its way, hashed as it goes. `failure`: why it could not be read."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        self._path = path
        self._on_bytes = on_bytes
        self._digest = hashlib.sha256()
        self._count = 0
        self.size = 0
        self.failure: StandfastError | None = None

    @contextlib.asynccontextmanager
    async def read(self, beat: Beat) -> AsyncIterator[None]:
        self._beat = beat
        try:
            self._file = await File.opened(self._path, READING)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self.size = await self._file.size()
            yield
        finally:
            self._file.close()

    async def chunks(self) -> AsyncGenerator[bytes]:
        while True:
            try:
                chunk = await self._file.read()
            except OSError as error:
                raise self._unreadable(error) from error
            self._beat()
            if not chunk:
                return
            self._digest.update(chunk)
            self._count += len(chunk)
            yield chunk
            self._on_bytes(len(chunk))

    @property
    def checked(self) -> Checked:
        return Checked(self._count, self._digest.hexdigest())

    def _unreadable(self, error: OSError) -> StandfastError:
        self.failure = BackupDamaged(f"{self._path} cannot be read: {error.strerror}")
        return self.failure


def _check(name: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no name that a remote takes")
