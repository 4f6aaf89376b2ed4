"""Reading a backup's file back: checksum, decryption, decompression, each joined to the next.

Invariant: the end of the stream is only told after every part has ended well; whichever fails first is what is raised.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pyrage

from standfast.errors import BackupDamaged, SettingsError, StandfastError
from standfast.zstd import zstd

_CHUNK_BYTES = 1 << 20
_END_TIMEOUT_S = 10.0


class Source:
    """The file, hashed as it is read. `BackupDamaged` where it cannot be."""

    def __init__(self, path: Path, sha256: str) -> None:
        self._path = path
        self._expected = sha256
        self._hash = hashlib.sha256()
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise self._unreadable(error) from error

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._file.read(size if size > 0 else _CHUNK_BYTES)
        except OSError as error:
            raise self._unreadable(error) from error
        self._hash.update(data)
        return data

    def check(self) -> None:
        """Read what is left, and compare. `BackupDamaged` where the whole is not what was written."""
        while self.read(_CHUNK_BYTES):
            pass
        if self._hash.hexdigest() != self._expected:
            raise BackupDamaged(f"{self._path} is not what was written: its checksum differs")

    def close(self) -> None:
        self._file.close()

    @property
    def name(self) -> str:
        return str(self._path)

    def _unreadable(self, error: OSError) -> BackupDamaged:
        return BackupDamaged(f"{self._path} cannot be read: {error.strerror}")


class Opened:
    """A context that yields the plain stream and returns every descriptor and thread."""

    def __init__(
        self, source: Source, keys: list[pyrage.x25519.Identity], *, encrypted: bool, compressed: bool
    ) -> None:
        self._source = source
        self._keys = keys
        self._encrypted = encrypted
        self._compressed = compressed
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BinaryIO:
        with contextlib.ExitStack() as stack:
            stack.callback(self._source.close)
            decryption = Decryption(self._source, self._keys) if self._encrypted else None
            if decryption is not None:
                stack.callback(decryption.close)
            inner: Any = decryption.stream if decryption else self._source
            if self._compressed:
                inner = stack.enter_context(zstd.ZstdFile(inner, "rb"))
            plain = io.BufferedReader(_Plain(inner, self._source, decryption), _CHUNK_BYTES)
            self._stack = stack.pop_all()
            return plain

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Decryption:
    """age pushes what it decrypts: a thread does that into a pipe, and what it fails with is asked for at the end."""

    def __init__(self, source: Source, keys: list[pyrage.x25519.Identity]) -> None:
        read_end, write_end = os.pipe()
        self.stream = open(read_end, "rb", buffering=0)  # noqa: PTH123, SIM115  # a descriptor; closed by `close`
        self._failure: StandfastError | None = None
        self._thread = threading.Thread(target=self._run, args=(source, keys, write_end), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Wait for the end, and raise what went wrong."""
        self._thread.join(_END_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self.stream.close()
        self._thread.join(_END_TIMEOUT_S)

    def _run(self, source: Source, keys: list[pyrage.x25519.Identity], write_end: int) -> None:
        with open(write_end, "wb", buffering=0) as pipe:  # a descriptor
            try:
                pyrage.decrypt_io(source, pipe, keys)
            except pyrage.DecryptError as error:
                self._failure = _not_opened(source, bool(keys), str(error))
            except BrokenPipeError:
                pass  # the reader has left
            except (OSError, StandfastError) as error:
                self._failure = (
                    error if isinstance(error, StandfastError) else _damaged(source, "decrypted", error)
                )


class _Plain(io.RawIOBase):
    def __init__(self, inner: Any, source: Source, decryption: Decryption | None) -> None:
        self._inner = inner
        self._source = source
        self._decryption = decryption

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data: bytes = self._inner.read(len(buffer))
        except (zstd.ZstdError, EOFError, OSError) as error:
            self._check()
            raise _damaged(self._source, "decompressed", error) from error
        if not data:
            self._check()
        buffer[: len(data)] = data
        return len(data)

    def _check(self) -> None:
        if self._decryption is not None:
            self._decryption.check()
        self._source.check()


def _damaged(source: Source, verb: str, error: Exception) -> BackupDamaged:
    return BackupDamaged(f"{source.name} cannot be {verb}: {str(error) or type(error).__name__}")


def _not_opened(source: Source, has_keys: bool, reason: str) -> StandfastError:
    if "No matching keys" not in reason:
        return BackupDamaged(f"{source.name} is no file of age: {reason}")
    said = "no identity in BACKUP_IDENTITY_FILE opens it" if has_keys else "BACKUP_IDENTITY_FILE is not set"
    return SettingsError(
        f"{source.name} is encrypted, and {said}",
        next_step="Name in BACKUP_IDENTITY_FILE the identity of one of the recipients that it was made for.",
    )
