"""`OutageHistory`: the last outages of PostgreSQL as this node saw them.

Invariant: one outage is one entry, also where the service was started anew in it; a file that cannot be read is an
empty history, told of in the log, and nothing here ever holds up the outage clock.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from standfast.health.document import Outage
from standfast.vault.clock import Clock, SystemClock
from standfast.vault.confirmation import Stamp
from standfast.vault.outage import OutageClock, State

log = structlog.get_logger(__name__)
KEPT = 200
SHOWN = 10
DAY_S = 86_400.0
CLOSE_TIMEOUT_S = 2.0
_SCHEMA = 1


class _Entry(msgspec.Struct):
    """`began`: seconds since 1970; `stamp` tells the same moment on a clock that nobody sets. `duration_s` None: it
    goes on."""

    began: float
    stamp: str
    cause: str | None = None
    duration_s: float | None = None
    batches: int = 0


class _File(msgspec.Struct):
    schema: int
    outages: list[_Entry]


class OutageHistory:
    """Follows `outage`; `carried` gives how many batches this process has carried to PostgreSQL so far."""

    def __init__(
        self,
        file: Path,
        outage: OutageClock,
        carried: Callable[[], int] = lambda: 0,
        clock: Clock | None = None,
    ) -> None:
        self._path = file
        self._outage = outage
        self._carried = carried
        self._clock = clock or SystemClock()
        self._carried_before = 0
        self._entries = self._read()
        self._writing: asyncio.Task[None] | None = None
        self._changed = False
        outage.changed(self._note)
        self._note(outage.state)

    async def close(self) -> None:
        """Return once what was noted is on the disk, or after two seconds."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=CLOSE_TIMEOUT_S)

    def outages(self, limit: int = SHOWN) -> list[Outage]:
        """The last ones, the newest last."""
        return [self._shown(entry) for entry in self._entries[-limit:]]

    def of_a_day(self) -> tuple[int, float]:
        """How many outages touched the last 24 hours, and for how many seconds of them."""
        now = self._clock.wall()
        count, total_s = 0, 0.0
        for outage in self.outages(KEPT):
            within_s = min(outage.duration_s, outage.began + outage.duration_s - (now - DAY_S))
            if within_s >= 0:
                count += 1
                total_s += within_s
        return count, min(total_s, DAY_S)

    def _note(self, state: State) -> None:
        last = self._entries[-1] if self._entries else None
        going_on = last if last is not None and last.duration_s is None else None
        if state is State.OUTAGE and going_on is None:
            self._began()
        elif state is State.ONLINE and going_on is not None:
            going_on.duration_s = self._lasts_s(going_on)
            going_on.batches = max(0, self._carried() - self._carried_before)
            self._save()

    def _began(self) -> None:
        ago_s, cause = self._outage.outage_s() or 0.0, self._outage.cause
        stamp = Stamp.of(self._clock.boottime() - ago_s, self._clock)
        self._carried_before = self._carried()
        message = cause.message[:300] if cause is not None else None
        self._entries.append(_Entry(round(self._clock.wall() - ago_s, 3), stamp.to_text(), message))
        del self._entries[:-KEPT]
        self._save()

    def _lasts_s(self, entry: _Entry) -> float:
        """By the clock that nobody sets; by the other one where that one says nothing."""
        age_s = Stamp.from_text(entry.stamp).age_s(self._clock)
        if age_s == float("inf"):
            age_s = max(0.0, self._clock.wall() - entry.began)
        return round(age_s, 1)

    def _shown(self, entry: _Entry) -> Outage:
        if entry.duration_s is None:
            lasts_s, ended = self._lasts_s(entry), None
        else:
            lasts_s, ended = entry.duration_s, round(entry.began + entry.duration_s, 3)
        return Outage(
            began=entry.began, ended=ended, duration_s=lasts_s, cause=entry.cause, batches=entry.batches
        )

    def _read(self) -> list[_Entry]:
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_File)
            for entry in content.outages:
                Stamp.from_text(entry.stamp)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            log.warning(
                "the history of outages could not be read and begins anew",
                file=str(self._path),
                reason=str(error),
            )
            return []
        return content.outages[-KEPT:] if content.schema == _SCHEMA else []

    def _save(self) -> None:
        self._changed = True
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        while self._changed:
            self._changed = False
            content = msgspec.json.encode(_File(_SCHEMA, self._entries))
            try:
                await asyncio.to_thread(_put, self._path, content)
            except OSError as error:
                log.warning("the history of outages was not written", reason=error.strerror)


def _put(path: Path, content: bytes) -> None:
    """The whole file or the former one, whatever happens."""
    beside = path.with_name(path.name + ".new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
