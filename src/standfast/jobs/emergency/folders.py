"""`Folders`: the root below which each company of a node that stands on files has its folder.

Invariant: folders become the companies' own all together or not at all: they are written aside and renamed under a
note of what is renamed; what was there before is kept, never deleted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from standfast.authstate.company import Company
from standfast.authstate.creds import parse_creds
from standfast.authstate.file_names import CREDS, INDEX
from standfast.authstate.key_pairs import check_creds
from standfast.authstate.live_folder import LiveFolder
from standfast.authstate.multifile import Keys, digest, names_in, read_file, read_index
from standfast.errors import AuthStateCorrupt, EmergencyRefused, StandfastError
from standfast.jobs.backup.catalogue import sync_directory, write_private

KEPT = ".kept"
_STAGING = ".staging-"
_NOTE = ".switch.json"
_BLOCK_BYTES = 4096
_SPARE_BYTES = 64 * 2**20
_SPARE_FILES = 1_000
_SAMPLE = 16


class _Switch(msgspec.Struct):
    """What is being renamed."""

    id: str
    companies: list[str]


class Folders:
    """Everything here blocks; run it in a thread. Raises `OSError` where the disk does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the root where there is none, and see that it can be written. `EmergencyRefused` where not."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.root.stat(follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                raise EmergencyRefused(
                    f"{self.root} is no directory", next_step="Name another one with --dir."
                )
            probe = self.root / ".probe"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise EmergencyRefused(
                f"{self.root} cannot be written: {error.strerror}",
                next_step="Make it writable, or name another one with --dir.",
            ) from error

    def check_room(self, files: int, size_bytes: int) -> None:
        """`EmergencyRefused` where so many files with so much in them would not fit."""
        disk = os.statvfs(self.root)
        needed = size_bytes + files * _BLOCK_BYTES + _SPARE_BYTES
        free = disk.f_bavail * disk.f_frsize
        if free < needed:
            raise EmergencyRefused(
                f"the folders need about {needed // 2**20} MiB in {self.root}, and {free // 2**20} MiB are free",
                next_step="Free space there, or name a directory on another disk with --dir.",
            )
        if disk.f_files and disk.f_favail < files + _SPARE_FILES:
            raise EmergencyRefused(
                f"the folders need {files} files in {self.root}, and its disk has room for {disk.f_favail} more",
                next_step="Name a directory on another disk with --dir.",
            )

    def staging(self, switch: str) -> Path:
        """Where the folders of that switch are written; made where it is not there."""
        path = self.root / f"{_STAGING}{switch}"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def write(
        self, switch: str, company: Company, creds: bytes, keys: Keys, epoch: int, sequence: int
    ) -> int:
        """One company, aside; how many files that took."""
        parse_creds(creds)
        return LiveFolder.create(self.staging(switch) / company, creds, keys, epoch, sequence)

    def check(self, switch: str, company: Company, files: int) -> None:
        """Look at what was written: all files there, creds whose pairs match, a sample as the index says.
        `AuthStateCorrupt` where it is not what it is to be."""
        directory = self.staging(switch) / company
        names, index = names_in(directory), read_index(directory)
        if len(names) != files or names != {CREDS, INDEX, *index}:
            raise AuthStateCorrupt(f"the folder of {company} does not hold what was written")
        check_creds(read_file(directory / CREDS))
        for name in list(index)[:: max(1, len(index) // _SAMPLE)]:
            if digest((directory / name).read_bytes()) != index[name]["sha256"]:
                raise AuthStateCorrupt(f"the folder of {company} does not hold what was written")

    def abandon(self, switch: str) -> None:
        """Drop what was written aside, and undo what of it was put in its place."""
        if self.root.is_dir():
            self.undo(switch)

    def place(self, switch: str, companies: Iterable[Company]) -> list[Company]:
        """Make the folders that were written the companies' own, durably; of which former ones are kept. Undone where
        it fails."""
        named = list(companies)
        staging, kept = self.staging(switch), self.kept(switch)
        _sync_disk(staging)
        write_private(self.root / _NOTE, msgspec.json.encode(_Switch(switch, [*named])))
        aside: list[Company] = []
        try:
            for company in named:
                if (self.root / company).exists():
                    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
                    (self.root / company).rename(kept / company)
                    aside.append(company)
                (staging / company).rename(self.root / company)
            sync_directory(self.root)
        except BaseException:
            self.undo(switch)
            raise
        return aside

    def kept(self, switch: str) -> Path:
        """Where former folders lie."""
        return self.root / KEPT / switch

    def done(self, switch: str) -> None:
        """It is committed."""
        (self.root / _NOTE).unlink(missing_ok=True)
        shutil.rmtree(self.root / f"{_STAGING}{switch}", ignore_errors=True)

    def undo(self, switch: str) -> None:
        """Put back what the switch replaced, and drop what it wrote."""
        noted = self._noted()
        staging = self.staging(switch)
        for company in noted.companies if noted is not None and noted.id == switch else ():
            # Still written aside: it was not renamed yet.
            if not (staging / company).exists() and (self.root / company).exists():
                (self.root / company).rename(staging / company)
            if (self.kept(switch) / company).exists():
                (self.kept(switch) / company).rename(self.root / company)
        for path in (self.kept(switch), self.root / KEPT):
            with contextlib.suppress(OSError):  # not made yet, or there is more in it
                path.rmdir()
        sync_directory(self.root)
        self.done(switch)

    def recover(self, committed: str | None) -> bool:
        """Undo a switch that was cut off before it was committed; whether there was one. `committed`: the one that
        stands."""
        if not self.root.is_dir():
            return False
        noted = self._noted()
        if noted is not None and noted.id != committed:
            self.undo(noted.id)
        elif noted is not None:
            self.done(noted.id)
        for staging in self.root.glob(f"{_STAGING}*"):
            shutil.rmtree(staging, ignore_errors=True)
        for unfinished in self.root.glob(f".{_NOTE}*"):
            unfinished.unlink(missing_ok=True)
        return noted is not None and noted.id != committed

    def _noted(self) -> _Switch | None:
        try:
            return msgspec.json.decode((self.root / _NOTE).read_bytes(), type=_Switch)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise StandfastError(f"{self.root / _NOTE} cannot be read: {error}") from error

    def present(self) -> Iterator[Company]:
        """Companies that have a folder."""
        if self.root.is_dir():
            for entry in sorted(self.root.iterdir()):
                if entry.is_dir() and not entry.name.startswith("."):
                    yield Company(entry.name)


def new_switch() -> str:
    """An id that sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{os.getpid()}"


def _sync_disk(directory: Path) -> None:
    """Everything that was written to that disk. Python has no syncfs; `sync` is one call for a million files."""
    os.sync()
    sync_directory(directory)
