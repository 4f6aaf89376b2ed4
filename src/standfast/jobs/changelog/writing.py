"""`SegmentWriter`: the end of a node's log, where segments are added.

Invariant: one process writes a node's log (the one that holds its state directory); a number is used once; a segment is
durable before `ends.json` names it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

import msgspec

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, StandfastError
from standfast.jobs.backup.catalogue import write_private
from standfast.jobs.changelog.entries import Entry
from standfast.jobs.changelog.folder import Ends, Folder, segment_name
from standfast.jobs.changelog.gathering import Position
from standfast.jobs.changelog.sealing import Sealer
from standfast.jobs.changelog.segment import (
    DIGEST_BYTES,
    Block,
    Place,
    checksum,
    made,
    open_segment,
    write_new,
)

FREE_BYTES = 64 * 2**20  # the vault needs the disk more
_POSITIONS = "positions.cache"


class _Positions(msgspec.Struct):
    """How far the log had come with each company when segment `number` was written."""

    number: int
    companies: dict[Company, Position]


class SegmentWriter:
    """Calls touch the disk: from an event loop, in a thread."""

    def __init__(self, folder: Folder, sealer: Sealer, node_name: str) -> None:
        self.folder = folder
        self.number = 0  # the newest there is
        self._sealer = sealer
        self._node_name = node_name
        self._previous = b""

    def begin(self) -> dict[Company, Position]:
        """Find the end of the log, and how far it has come with each company. Raises `OSError`."""
        self.folder.prepare()
        places = self._found(self.folder)
        ends = self._noted_ends()
        self.number = max([ends.last, *(place.number for place in places)])
        if not self.number:
            # A log that is begun anew, the old disk lost, has other numbers than the one that remotes still have.
            self.number = int(time.time())
        self._previous = bytes.fromhex(ends.checksum) if ends.last == self.number else b""
        if not self._previous and places and places[-1].number == self.number:
            with contextlib.suppress(BackupDamaged):
                self._previous = checksum(places[-1])
        return self._positions(places)

    def write(self, entries: dict[Company, list[Entry]], closed_at: float, database: str = "") -> Place:
        """Add a segment. Raises `OSError`."""
        free = os.statvfs(self.folder.path)
        if free.f_bavail * free.f_frsize < FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        number = self.number + 1
        content = made(
            entries,
            self._sealer,
            node=self.folder.node,
            node_name=self._node_name,
            number=number,
            previous=self._previous,
            closed_at=closed_at,
            database=database,
        )
        path = self.folder.path / segment_name(number, closed_at)
        write_new(path, content)
        place = Place(path, 0, len(content), number, closed_at)
        self.number, self._previous = number, content[-DIGEST_BYTES:]
        self.folder.note_ends(Ends(number, self._previous.hex()))
        return place

    def note(self, positions: dict[Company, Position]) -> None:
        """Spare the next start the reading of all headers. Raises `OSError`."""
        kept = {company: position for company, position in positions.items() if position.follows}
        data = msgspec.msgpack.encode(_Positions(self.number, kept))
        write_private(self.folder.path / _POSITIONS, data)

    def _found(self, folder: Folder) -> list[Place]:
        try:
            return folder.segments()
        except StandfastError:
            return []  # a damaged pack: `verify` tells; the log goes on behind it

    def _noted_ends(self) -> Ends:
        try:
            return self.folder.ends() or Ends()
        except StandfastError:
            return Ends()

    def _positions(self, places: list[Place]) -> dict[Company, Position]:
        """What a segment that cannot be read had is unknown, and so is everything before it."""
        known = self._cached()
        positions = dict(known.companies)
        expected = known.number + 1 if known.number else places[0].number if places else 0
        for place in places:
            if place.number <= known.number:
                continue
            try:
                header = open_segment(place).header
            except BackupDamaged:
                positions.clear()
                continue
            if place.number != expected:
                positions.clear()
            expected = place.number + 1
            for name, block in header.blocks.items():
                _move(positions, Company(name), block)
        return positions if expected == self.number + 1 else {}

    def _cached(self) -> _Positions:
        try:
            data = (self.folder.path / _POSITIONS).read_bytes()
            found = msgspec.msgpack.decode(data, type=_Positions)
        except (OSError, msgspec.MsgspecError):
            return _Positions(0, {})
        return found if found.number <= self.number else _Positions(0, {})


def _move(positions: dict[Company, Position], company: Company, block: Block) -> None:
    former = positions.get(company)
    if block.removed:
        positions.pop(company, None)
    elif former is not None or block.snapshot_at is not None:
        snapshot_at = block.snapshot_at or (former.snapshot_at if former else 0.0)
        segments = 1 if block.snapshot_at or former is None else former.segments + 1
        positions[company] = Position(block.epoch, block.last, block.last_at, snapshot_at, segments)
