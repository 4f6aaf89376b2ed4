"""`Folder`: one node's segments on this machine's disk, single ones and packs of older ones.

Invariant: numbers never repeat and have no hole but those that retention has noted in `dropped.json` before it made
them, and before a log that was begun anew; `ends.json` says how far the log has come, so that a lost end is noticed.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from standfast.errors import BackupDamaged, BackupFailed, JobRunning
from standfast.jobs.backup.catalogue import write_private
from standfast.jobs.changelog.segment import DIGEST_BYTES, Place

T = TypeVar("T")
CHANGES = "changes"
DROPPED = "dropped.json"
PACK_MAGIC = b"SFPACKS1"
_STAMP = "%Y%m%dT%H%M%SZ"
_SEGMENT = re.compile(r"(\d{12})-(\d{8}T\d{6}Z)\.seg")
_PACK = re.compile(r"(\d{12})-(\d{12})-(\d{8}T\d{6}Z)\.pack")


class Ends(msgspec.Struct, omit_defaults=True):
    """The newest segment there is, and its checksum (hex)."""

    last: int = 0
    checksum: str = ""


class Dropped(msgspec.Struct):
    """Ranges of numbers, both included, that retention has removed."""

    ranges: list[tuple[int, int]] = []

    def has(self, number: int) -> bool:
        return self.covers(number, number)

    def covers(self, first: int, last: int) -> bool:
        """Whether all of `first` to `last` are dropped."""
        return any(begin <= first and last <= end for begin, end in self.ranges)

    def add(self, first: int, last: int) -> None:
        ranges: list[tuple[int, int]] = []
        for begin, end in sorted([*self.ranges, (first, last)]):
            if ranges and begin <= ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((begin, end))
        self.ranges = ranges


class Inner(msgspec.Struct, array_like=True):
    """A segment within a pack; `offset` counts from the end of the index."""

    number: int
    closed_at: float
    offset: int
    length: int


class PackIndex(msgspec.Struct, array_like=True):
    """`companies`: the numbers of the segments that have something of each."""

    segments: list[Inner]
    companies: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Pack:
    """`body`: where its first segment begins."""

    path: Path
    index: PackIndex
    body: int

    def places(self) -> list[Place]:
        return [
            Place(self.path, self.body + one.offset, one.length, one.number, math.ceil(one.closed_at))
            for one in self.index.segments
        ]


@dataclass(frozen=True, slots=True)
class File:
    """A file with the segments `first` to `last`; the last was closed at `closed_at`, rounded up to seconds."""

    path: Path
    first: int
    last: int
    closed_at: float


class Folder:
    """Calls touch the disk: from an event loop, in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._packs: dict[Path, Pack] = {}

    @property
    def node(self) -> str:
        return self.path.name

    def prepare(self) -> None:
        """Make it. Raises `OSError`."""
        self.path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in (self.path.parent, self.path):
            directory.mkdir(mode=0o700, exist_ok=True)
        for left in self.path.glob(".*.new"):
            left.unlink(missing_ok=True)

    def files(self) -> list[File]:
        """Every file of segments, by number; what a pack has is no longer a file of its own. `BackupFailed` where the
        folder cannot be read; empty where there is none."""
        found = [File(self.path / name, *span_of(name)) for name in self.names()]
        packs = [file for file in found if file.first != file.last]
        packed = {number for pack in packs for number in range(pack.first, pack.last + 1)}
        single = [file for file in found if file.first == file.last and file.first not in packed]
        return sorted([*packs, *single], key=lambda file: file.first)

    def places(self, file: File) -> list[Place]:
        """A file's segments. `BackupDamaged`."""
        if file.path.suffix == ".pack":
            return self.pack(file.path).places()
        try:
            length = file.path.stat().st_size
        except OSError as error:
            raise BackupDamaged(f"{file.path} cannot be read: {error.strerror}") from error
        return [Place(file.path, 0, length, file.first, file.closed_at)]

    def segments(self) -> list[Place]:
        """Every segment, by number. `BackupDamaged` where a pack's index is damaged."""
        return [place for file in self.files() for place in self.places(file)]

    def names(self) -> list[str]:
        """The files of segments and packs, oldest first."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208  # thousands of them: no objects
        except FileNotFoundError:
            return []
        except OSError as error:
            raise BackupFailed(f"the change log in {self.path} cannot be read: {error.strerror}") from error
        return sorted(name for name in names if is_segment(name))

    def pack(self, path: Path) -> Pack:
        """A pack's index. `BackupDamaged`."""
        if path not in self._packs:
            self._packs[path] = _read_pack(path)
        return self._packs[path]

    def lacks(self, place: Place, company: str) -> bool:
        """Whether a pack's index says that the segment has nothing of the company."""
        pack = self._packs.get(place.path)
        return pack is not None and place.number not in pack.index.companies.get(company, ())

    def missing(self, before: File | None, after: File, dropped: Dropped) -> tuple[int, int] | None:
        """The first and the last number that is neither there nor dropped between two files."""
        first, last = before.last + 1 if before is not None else 1, after.first - 1
        for begin, end in sorted(dropped.ranges):
            if begin <= first <= end:
                first = end + 1
            if begin <= last <= end:
                last = begin - 1
        return (first, last) if first <= last else None

    def is_packed(self, place: Place) -> bool:
        return place.path in self._packs

    def packed_companies(self) -> set[str]:
        """Those of every pack that was looked at."""
        return {company for pack in self._packs.values() for company in pack.index.companies}

    def ends(self) -> Ends | None:
        """None where that is not known. `BackupDamaged`."""
        return self._note("ends.json", Ends)

    def dropped(self) -> Dropped:
        return self._note(DROPPED, Dropped) or Dropped()

    def note_ends(self, ends: Ends) -> None:
        """Raises `OSError`."""
        write_private(self.path / "ends.json", msgspec.json.encode(ends))

    def note_dropped(self, dropped: Dropped) -> None:
        """Raises `OSError`."""
        write_private(self.path / DROPPED, msgspec.json.encode(dropped))

    def _note(self, name: str, kind: type[T]) -> T | None:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackupFailed(f"{path} cannot be read: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise BackupDamaged(f"{path} is damaged: {error}") from error

    @contextlib.contextmanager
    def tidying(self) -> Iterator[None]:
        """Nobody else packs or removes meanwhile. `JobRunning` where somebody does."""
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobRunning(f"the change log in {self.path} is being compacted already") from None
            yield


def is_segment(name: str) -> bool:
    """Whether a file of that name holds segments."""
    return bool(_SEGMENT.fullmatch(name) or _PACK.fullmatch(name))


def span_of(name: str) -> tuple[int, int, float]:
    """The first and the last number of a file's segments, and when the last was closed, rounded up to seconds."""
    if single := _SEGMENT.fullmatch(name):
        return int(single[1]), int(single[1]), _moment(single[2])
    pack = _PACK.fullmatch(name)
    assert pack is not None, name
    return int(pack[1]), int(pack[2]), _moment(pack[3])


def segment_name(number: int, closed_at: float) -> str:
    return f"{number:012d}-{_stamp(closed_at)}.seg"


def pack_name(first: int, last: int, closed_at: float) -> str:
    return f"{first:012d}-{last:012d}-{_stamp(closed_at)}.pack"


def folders(backups: Path) -> list[Folder]:
    """Those of every node whose segments lie below the backup directory."""
    root = backups / CHANGES
    try:
        return [Folder(path) for path in sorted(root.iterdir()) if path.is_dir() and path.name[0] != "."]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackupFailed(f"the change log in {root} cannot be read: {error.strerror}") from error


def _stamp(at: float) -> str:
    return time.strftime(_STAMP, time.gmtime(math.ceil(at)))


def _moment(stamp: str) -> float:
    parsed = time.strptime(stamp, _STAMP)
    return float(calendar.timegm(parsed))


def _read_pack(path: Path) -> Pack:
    try:
        with path.open("rb") as file:
            begin = file.read(len(PACK_MAGIC) + 4)
            length = int.from_bytes(begin[len(PACK_MAGIC) :], "little")
            if not begin.startswith(PACK_MAGIC) or length > path.stat().st_size:
                raise BackupDamaged(f"{path.name} is no pack of a change log")
            head, digest = file.read(length), file.read(DIGEST_BYTES)
    except OSError as error:
        raise BackupDamaged(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(head).digest() != digest:
        raise BackupDamaged(f"{path.name} has a damaged index")
    try:
        index = msgspec.msgpack.decode(head, type=PackIndex)
    except msgspec.MsgspecError as error:
        raise BackupDamaged(f"{path.name} is not of this version's format") from error
    return Pack(path, index, len(begin) + length + DIGEST_BYTES)


def pack_content(index: PackIndex) -> bytes:
    """What a pack begins with; its segments follow."""
    head = msgspec.msgpack.encode(index)
    return PACK_MAGIC + len(head).to_bytes(4, "little") + head + hashlib.sha256(head).digest()
