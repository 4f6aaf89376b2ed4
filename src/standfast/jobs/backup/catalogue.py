"""The backups of a directory, and what is known of each.

Invariant: a backup is a directory whose manifest can be read; what is being written, what is damaged and what is
foreign is listed as that and never counted as a backup. Every file here is 0600, every directory 0700.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from standfast.errors import BackupDamaged, BackupFailed, NotFound, StandfastError
from standfast.jobs.backup.manifest import FORMAT, MANIFEST, RECORD, Manifest, Record

State = Literal["good", "unproven", "bad"]
NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?")
_KEPT = 50  # of validations and restore tests, the newest of each backup


@dataclass(frozen=True, slots=True)
class Backup:
    """`error`: why its manifest cannot be used; then `manifest` is None. `record` is empty where nothing is known."""

    path: Path
    manifest: Manifest | None
    record: Record
    error: StandfastError | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def content(self) -> Path:
        """The file with the data."""
        assert self.manifest is not None
        return self.path / self.manifest.content.file

    @property
    def state(self) -> State:
        """ "good": the last validation has found nothing wrong. "unproven": there was none yet."""
        if self.manifest is None:
            return "bad"
        if not self.record.validations:
            return "unproven"
        return "good" if self.record.validations[-1].ok else "bad"


class Catalogue:
    """Calls touch the disk: from an event loop, in a thread (`asyncio.to_thread`)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def backups(self) -> list[Backup]:
        """Newest first, damaged ones too. Empty where the directory does not exist; `BackupFailed` where it cannot be
        read."""
        try:
            names = sorted(
                (one.name for one in self.root.iterdir() if NAME.fullmatch(one.name)), reverse=True
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BackupFailed(
                f"the backups in {self.root} cannot be read: {error.strerror}",
                next_step="Check its owner and rights, and that its disk is mounted; BACKUP_ROOT names it.",
            ) from error
        return [self._read(self.root / name) for name in names]

    def get(self, name: str) -> Backup:
        """`NotFound` where there is none of that name ("latest": the newest that is not bad); `BackupDamaged` where its
        manifest cannot be used."""
        found = self.find(name)
        if found.error is not None:
            raise found.error
        return found

    def find(self, name: str) -> Backup:
        """As `get`, for whoever looks into damaged ones too."""
        if name == "latest":
            usable = [one for one in self.backups() if one.state != "bad"]
            if usable:
                return usable[0]
        elif NAME.fullmatch(name) and (self.root / name).is_dir():
            return self._read(self.root / name)
        raise NotFound(f"there is no backup {name!r} in {self.root}", next_step="See: standfast backup list")

    def prepare(self) -> None:
        """Make the directory, or check that it is ours alone to write in. `BackupFailed` otherwise."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.root.lstat()
        except OSError as error:
            raise BackupFailed(
                f"the backup directory {self.root} cannot be made: {error.strerror}",
                next_step="Make it writable for this user, or name another with BACKUP_ROOT.",
            ) from error
        wrong = _wrong_with(found)
        if wrong:
            raise BackupFailed(
                f"the backup directory {self.root} {wrong}",
                next_step="Name a directory with BACKUP_ROOT that only this user can write in (chmod 700).",
            )

    def free_name(self, at: float) -> str:
        """A name that no backup has."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1_000)))
        return next(name for name in names if not (self.root / name).exists())

    def record(self, name: str, record: Record) -> None:
        """Replace what is known of a backup. `BackupFailed` where that cannot be written."""
        del record.validations[:-_KEPT], record.restore_tests[:-_KEPT]
        path = self.root / name / RECORD
        try:
            write_private(path, msgspec.json.format(msgspec.json.encode(record)))
        except OSError as error:
            raise BackupFailed(f"{path} cannot be written: {error.strerror}") from error

    def _read(self, path: Path) -> Backup:
        record = Record()
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            record = msgspec.json.decode((path / RECORD).read_bytes(), type=Record)
        try:
            return Backup(path, read_manifest(path / MANIFEST), record)
        except StandfastError as error:
            return Backup(path, None, record, error)


def read_manifest(path: Path) -> Manifest:
    """`BackupDamaged` where it is missing, malformed or of a later format."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackupDamaged(f"{path} cannot be read: {error.strerror}") from error
    return parse_manifest(data, str(path))


def parse_manifest(data: bytes, where: str) -> Manifest:
    """As `read_manifest`, of what a remote has given."""
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        number = msgspec.json.decode(found.get("format", msgspec.Raw(b"null")), type=int)
        if number > FORMAT:
            raise BackupDamaged(
                f"{where} is of format {number}; this version knows {FORMAT}",
                next_step="Use the version of Standfast that made it, or a later one.",
            )
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupDamaged(f"{where} is no manifest of a backup: {error}") from error


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a file with that content, mode 0600, durable once this returns. Raises `OSError`."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123  # pathlib cannot open a descriptor
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was renamed within it durable. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _wrong_with(found: os.stat_result) -> str:
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    if found.st_uid != os.geteuid():
        return f"belongs to another user (uid {found.st_uid})"
    if found.st_mode & 0o077:
        return f"is open to other users (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""
