"""When PostgreSQL last confirmed this node, kept so that a restart, a reboot or a set clock cannot make it younger.

Invariant: an age is never too small: it is exact within one run of the machine, and over a reboot it is what the
wall clock says, unless that clock was seen to have gone back: then it is infinite.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import structlog

from standfast.vault.clock import Clock

log = structlog.get_logger(__name__)

_MAGIC = b"SFCONF1\n"
_RECORD = struct.Struct("<8sddd36s")
_CHECKSUM = struct.Struct("<I")
_SIZE = _RECORD.size + _CHECKSUM.size
_WALL_TOLERANCE_S = 2.0  # a wall clock that is kept in step may go back by so much without having been set


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment that was `age_then_s` ago when `boottime` and `wall` were read."""

    boottime: float
    wall: float
    boot_id: str
    age_then_s: float = 0.0

    @classmethod
    def now(cls, clock: Clock) -> Stamp:
        return cls(clock.boottime(), clock.wall(), clock.boot_id())

    @classmethod
    def of(cls, boottime: float, clock: Clock) -> Stamp:
        """The moment at which `boottime` was read in this run of the machine."""
        now = cls.now(clock)
        return cls(now.boottime, now.wall, now.boot_id, max(0.0, now.boottime - boottime))

    def refreshed(self, clock: Clock) -> Stamp:
        """The same moment as told from now: what the wall clock did until now no longer matters."""
        return Stamp(clock.boottime(), clock.wall(), clock.boot_id(), self.age_s(clock))

    def age_s(self, clock: Clock) -> float:
        """Seconds since the moment; infinite where only the wall clock could tell and it cannot be believed."""
        return self.age_then_s + self._elapsed_s(clock)

    def _elapsed_s(self, clock: Clock) -> float:
        uptime_s = clock.boottime()
        if self.boot_id == clock.boot_id():
            return uptime_s - self.boottime if uptime_s >= self.boottime else math.inf
        by_wall_s = clock.wall() - self.wall
        if by_wall_s < uptime_s - _WALL_TOLERANCE_S:
            return math.inf
        return max(by_wall_s, uptime_s)

    def to_text(self) -> str:
        """Short, for a column of a table."""
        return json.dumps([self.boottime, self.wall, self.boot_id, self.age_then_s])

    @classmethod
    def from_text(cls, text: str) -> Stamp:
        """Raises `ValueError` for anything that `to_text` did not make."""
        try:
            boottime, wall, boot_id, age_then_s = json.loads(text)
            return cls(float(boottime), float(wall), str(boot_id), float(age_then_s))
        except (TypeError, ValueError):
            raise ValueError("not the text of a stamp") from None


class Confirmation:
    """The node's last confirmation, in one small record at `path`, whose directory exists.

    It is written in place and not synced: it lives in the page cache over every death of the process, and what a
    power loss leaves of it is older, which is safe, or damaged, which counts as none.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._stamp = _read(path)
        self._is_failing = False

    def confirm(self, at_boottime: float) -> None:
        """PostgreSQL has answered a request that was begun at `at_boottime`."""
        stamp = Stamp.of(at_boottime, self._clock)
        known = self._stamp
        if known is None or stamp.age_s(self._clock) <= known.age_s(self._clock):
            self._keep(stamp)

    def refresh(self) -> None:
        """Note the present age, in an outage now and then: it is what a reboot can then count on."""
        if self._stamp is not None:
            self._keep(self._stamp.refreshed(self._clock))

    def age_s(self) -> float | None:
        """Seconds since the confirmation; None where there was none, or the record is damaged."""
        return None if self._stamp is None else self._stamp.age_s(self._clock)

    def _keep(self, stamp: Stamp) -> None:
        self._stamp = stamp
        try:
            _write(self._path, stamp)
        except OSError as error:
            # What is on disk is older: the next process trusts it for less long, and no session needs it now.
            if not self._is_failing:
                log.warning("the confirmation by PostgreSQL cannot be kept on disk", reason=error.strerror)
            self._is_failing = True
        else:
            self._is_failing = False


def _write(path: Path, stamp: Stamp) -> None:
    record = _RECORD.pack(
        _MAGIC, stamp.boottime, stamp.wall, stamp.age_then_s, stamp.boot_id.encode("ascii", "replace")
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, record + _CHECKSUM.pack(zlib.crc32(record)), 0)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Stamp | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) != _SIZE:
        return None
    record = content[: _RECORD.size]
    if _CHECKSUM.unpack(content[_RECORD.size :])[0] != zlib.crc32(record):
        return None
    magic, boottime, wall, age_then_s, boot_id = _RECORD.unpack(record)
    if magic != _MAGIC:
        return None
    return Stamp(boottime, wall, boot_id.rstrip(b"\0").decode("ascii", "replace"), age_then_s)
