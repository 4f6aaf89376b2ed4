"""The file with a backup's data: pg_dump's archive, compressed with zstd and, to given recipients, encrypted with age.

Invariant: what `seal` returns is of what lies on the disk, durably; a stream of `opened` that was read to its end was
whole, authentic and of the checksum that its manifest names. No error of a part is lost between the parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import pyrage

from standfast.errors import BackupDamaged, SettingsError
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.unsealing import Opened, Source
from standfast.settings import Settings
from standfast.zstd import zstd

NOT_ENCRYPTED = "none"
_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 16
_MAX_WORKERS = 4


class Readable(Protocol):
    """What pg_dump's pipe is: `read` gives what there is, at most so much; b"" at the end."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sealed:
    bytes: int
    sha256: str
    plain_bytes: int


def recipients(settings: Settings) -> list[pyrage.x25519.Recipient]:
    """Whom backups are encrypted to; empty: nobody. `SettingsError` names the one that is no recipient of age's."""
    given = (settings.backup_recipients or "").split()
    if given == [NOT_ENCRYPTED]:
        return []
    found = []
    for number, text in enumerate(given, 1):
        try:
            found.append(pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError:
            # It may be the identity, put here by mistake: it is not repeated.
            raise SettingsError(
                f"number {number} of BACKUP_RECIPIENTS is no recipient of age (age1…)",
                next_step="'age-keygen -y FILE' prints an identity file's recipient; several are separated by spaces.",
            ) from None
    return found


def identities(settings: Settings) -> list[pyrage.x25519.Identity]:
    """What opens encrypted backups; empty where no file is named. `SettingsError` where it cannot be used. Reads it."""
    path = settings.backup_identity_file
    if path is None:
        return []
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds something else"
        raise SettingsError(
            f"BACKUP_IDENTITY_FILE={path} cannot be used: {reason}",
            next_step="Name a file that 'age-keygen -o FILE' wrote, readable for this user.",
        ) from None
    if not found:
        raise SettingsError(
            f"BACKUP_IDENTITY_FILE={path} holds no identity",
            next_step="Name a file that 'age-keygen -o FILE' wrote.",
        )
    return found


def can_open(backup: Backup, keys: Sequence[pyrage.x25519.Identity]) -> bool:
    """Whether one of `keys` opens it; always so where it is not encrypted. Raises `BackupDamaged` where the file cannot
    be read. Reads its header only."""
    manifest = backup.manifest
    if manifest is None or not manifest.content.encrypted:
        return True
    try:
        with backup.content.open("rb") as file:
            pyrage.decrypt_io(_Head(file), _Nowhere(), list(keys))
    except pyrage.DecryptError:
        return False
    except OSError as error:
        if error.strerror is not None:
            raise BackupDamaged(f"{backup.content} cannot be read: {error.strerror}") from error
    return True


@contextlib.contextmanager
def opened(backup: Backup, keys: Sequence[pyrage.x25519.Identity] = ()) -> Iterator[BinaryIO]:
    """The archive as pg_dump wrote it, a stream that does not seek. Reading raises `BackupDamaged` where the file is
    not what was written (the checksum is known at the end), `SettingsError` where none of `keys` opens it. Blocks: use
    it in a thread."""
    assert backup.manifest is not None, "a backup that cannot be read has no content"
    content = backup.manifest.content
    source = Source(backup.content, content.sha256)
    with Opened(
        source, list(keys), encrypted=content.encrypted, compressed=content.compression == "zstd"
    ) as stream:
        yield stream


def seal(
    source: Readable,
    target: Path,
    *,
    level: int,
    to: Sequence[pyrage.x25519.Recipient] = (),
    on_read: Callable[[int], None] = lambda _count: None,
) -> Sealed:
    """Write `source` to its end into the new file `target` (0600). Blocks. Raises `OSError`, and whatever `source`
    does; what was written until then stays there."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  # pathlib cannot open a descriptor
        packed, written = _Packed(source, level, on_read), _Written(file)
        if to:
            _encrypt(packed, written, to)
        else:
            while chunk := packed.read(_CHUNK_BYTES):
                written.write(chunk)
        os.fsync(file.fileno())
    return Sealed(written.count, written.hash.hexdigest(), packed.count)


def _encrypt(packed: _Packed, written: _Written, to: Sequence[pyrage.x25519.Recipient]) -> None:
    # pyrage hides what a reader raised behind its own error, and says nothing of a writer that failed at the very end.
    try:
        pyrage.encrypt_io(packed, written, list(to))
    except (pyrage.EncryptError, OSError):
        if packed.failure is None and written.failure is None:
            raise
    failure = packed.failure or written.failure
    if failure is not None:
        raise failure


class _Packed:
    """Compresses what it reads."""

    def __init__(self, source: Readable, level: int, on_read: Callable[[int], None]) -> None:
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
            zstd.CompressionParameter.nb_workers: min(_MAX_WORKERS, os.cpu_count() or 1),
        }
        self._source = source
        self._compressor = zstd.ZstdCompressor(options=options)
        self._on_read = on_read
        self._ready = bytearray()
        self._ended = False
        self.count = 0
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            while not self._ended and (size < 0 or len(self._ready) < size):
                self._fill()
        except Exception as error:
            self.failure = error
            raise
        size = len(self._ready) if size < 0 else size
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def _fill(self) -> None:
        chunk = self._source.read(_CHUNK_BYTES)
        if chunk:
            self.count += len(chunk)
            self._on_read(len(chunk))
            self._ready += self._compressor.compress(chunk)
        else:
            self._ended = True
            self._ready += self._compressor.flush()


class _Written:
    """Counts and hashes what it writes, whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0
        self.hash = hashlib.sha256()
        self.failure: Exception | None = None

    def write(self, data: bytes) -> int:
        try:
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except Exception as error:
            self.failure = error
            raise
        self.hash.update(data)
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class _Head:
    """The beginning of a file, as if it ended there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass
