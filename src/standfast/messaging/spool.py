"""`Spool`: files that wait to be sent, or that were just brought in, on this machine's disk.

Each is sealed with a key of its own (AES-256-GCM), which stands only where the file is named: without that it is noise.
Invariant: a file that has its name is whole and on the disk; what nobody names any more is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from standfast.errors import JournalUnwritable, StandfastError
from standfast.vault.storage.cipher import KEY_BYTES, Unreadable, sync_directory

CHUNK_BYTES = 256 * 1024
TAG_BYTES = 16
# A key is used once, so that a nonce cannot come twice under it.
_NONCE = bytes(12)
_UNNAMED = ".part"
T = TypeVar("T")


class Spooled(msgspec.Struct, frozen=True):
    """A file in the spool. `head` are its first bytes, by which its type is known."""

    name: str
    key: bytes
    size_bytes: int
    sha256: str
    head: bytes = b""


class TooLarge(Exception):
    """There was more than was granted."""


class Spool:
    """The files of one directory (0700)."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self.directory = directory
        self._clock = clock

    def open(self) -> None:
        """Make the directory. `JournalUnwritable` where the disk does not take it."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
        except OSError as error:
            raise _unwritable(self.directory, error) from error

    def path(self, name: str) -> Path:
        return self.directory / name

    async def put(self, chunks: Iterable[bytes], max_bytes: int) -> Spooled:
        """Keep what `chunks` yields, read in a thread. `TooLarge`, `JournalUnwritable`, or what reading raises."""
        return await _in_thread(lambda: self._put(chunks, max_bytes))

    def new_name(self) -> tuple[str, bytes]:
        """A name and a key for a file that another process is to write here."""
        return secrets.token_hex(16), os.urandom(KEY_BYTES)

    def read(self, name: str, key: bytes) -> Iterator[bytes]:
        """The plain bytes of a file; `Unreadable` at the latest at its end where it was changed, `OSError`."""
        path = self.path(name)
        decryptor = Cipher(AES(key), GCM(_NONCE)).decryptor()
        left = path.stat().st_size - TAG_BYTES
        with path.open("rb") as file:
            while left > 0:
                sealed = file.read(min(CHUNK_BYTES, left))
                if not sealed:
                    raise Unreadable("a file of the spool is shorter than it was")
                left -= len(sealed)
                yield decryptor.update(sealed)
            try:
                decryptor.finalize_with_tag(file.read())
            except (InvalidTag, ValueError):
                raise Unreadable("a file of the spool does not match its seal") from None

    def remove(self, name: str) -> None:
        """Forget a file; where it is gone already nothing happens."""
        with contextlib.suppress(OSError):
            self.path(name).unlink(missing_ok=True)

    def sweep(self, needed: Collection[str], older_than_s: float) -> int:
        """Remove what is not needed and older; how many files. What cannot be removed is left for the next time."""
        before, removed = self._clock() - older_than_s, 0
        with contextlib.suppress(OSError):
            for file in self.directory.iterdir():
                if file.name not in needed and file.lstat().st_mtime < before:
                    file.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _put(self, chunks: Iterable[bytes], max_bytes: int) -> Spooled:
        name, key = self.new_name()
        beside = self.path(name + _UNNAMED)
        try:
            spooled = _sealed(beside, name, key, chunks, max_bytes)
            beside.replace(self.path(name))
            sync_directory(self.directory)
        except BaseException as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(self.directory, error) from error
            raise
        return spooled


def _sealed(file: Path, name: str, key: bytes, chunks: Iterable[bytes], max_bytes: int) -> Spooled:
    encryptor, digest = Cipher(AES(key), GCM(_NONCE)).encryptor(), hashlib.sha256()
    size_bytes, head = 0, b""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out:
        for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                raise TooLarge
            head = head or bytes(chunk[:512])
            digest.update(chunk)
            out.write(encryptor.update(chunk))
        out.write(encryptor.finalize() + encryptor.tag)
        out.flush()
        os.fsync(out.fileno())
    return Spooled(name, key, size_bytes, digest.hexdigest(), head)


async def _in_thread(work: Callable[[], T]) -> T:
    """Its result; a cancelled caller waits until it has cleaned up behind itself."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(StandfastError, TooLarge, OSError):
            await running
        raise


def _unwritable(directory: Path, error: OSError) -> StandfastError:
    return JournalUnwritable(f"files cannot be kept in {directory}: {error.strerror}")
