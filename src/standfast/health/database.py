"""PostgreSQL as one statement every two seconds sees it: there or not, how far away, and what time it is there.

Invariant: an offset between two clocks is told only beyond what the round trip leaves open.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from standfast.errors import StandfastError
from standfast.health.document import DatabaseSection, Finding, FindingLevel
from standfast.health.thresholds import Thresholds
from standfast.health.words import span
from standfast.postgres.pool import Database, Statement

OFFSET_WARNING_S = 2.0
OFFSET_ERROR_S = 30.0
KEPT = 15
_LOOK = Statement(
    "ping", "select extract(epoch from clock_timestamp())::float8, current_setting('server_version')"
)


class Seen(NamedTuple):
    """One look. `offset_s`: PostgreSQL's clock less this machine's, give or take `either_way_s`."""

    latency_s: float
    offset_s: float
    either_way_s: float


class DatabaseWatch:
    """`look` is to be called every two seconds while PostgreSQL is not known to be away."""

    def __init__(self, database: Database, *, embedded: bool, wall: Callable[[], float] = time.time) -> None:
        self.embedded = embedded
        self.error: StandfastError | None = None
        self._database = database
        self._wall = wall
        self._version: str | None = None
        self._seen: deque[Seen] = deque(maxlen=KEPT)

    @property
    def server(self) -> str:
        """ "PostgreSQL 18.0 (embedded)"; without its version as long as that is not known."""
        name = f"PostgreSQL {self._version}" if self._version else "PostgreSQL"
        return f"{name} ({'embedded' if self.embedded else 'external'})"

    @property
    def latency_ms(self) -> float | None:
        """The last round trip."""
        return round(self._seen[-1].latency_s * 1000, 2) if self._seen else None

    async def look(self) -> None:
        """Ask once. Raises like every call."""
        began_wall, began = self._wall(), time.perf_counter()
        try:
            theirs, version = (await self._database.fetch(_LOOK))[0]
        except StandfastError as error:
            self.error = error
            raise
        latency_s = time.perf_counter() - began
        self.error = None
        self._version = version.split(" ")[0]
        self._note(Seen(latency_s, theirs - (began_wall + latency_s / 2), latency_s / 2))

    def _note(self, seen: Seen) -> None:
        # Before a clock was set and after it are two different offsets.
        if self._seen and abs(seen.offset_s - self._seen[-1].offset_s) > seen.latency_s + 1.0:
            self._seen.clear()
        self._seen.append(seen)

    def clock_offset_s(self) -> float | None:
        """By the quickest round trip of the last half minute; 0 where that leaves open whether there is any."""
        if not self._seen:
            return None
        best = min(self._seen, key=lambda one: one.either_way_s)
        return round(best.offset_s, 3) if abs(best.offset_s) > best.either_way_s else 0.0

    def section(self, away: StandfastError | None = None) -> DatabaseSection:
        """`away`: why PostgreSQL is known to be away, which others know sooner than the next look does."""
        error = away or self.error
        state = "online" if self._seen else "unknown"
        if error is not None:
            state = "left alone" if error.facts.get("cause") == "on_files" else "unavailable"
        return DatabaseSection(
            state=state,
            where=self._database.options.describe(),
            embedded=self.embedded,
            server=self.server if self._version else None,
            latency_ms=self.latency_ms if error is None else None,
            clock_offset_s=self.clock_offset_s(),
            error=error.message if error else None,
            next_step=error.next_step if error else None,
        )


def findings(section: DatabaseSection, thresholds: Thresholds) -> list[Finding]:
    """An outage is the vault's finding, which knows what follows from it."""
    found: list[Finding] = []
    if section.state == "unavailable":
        message = section.error or "PostgreSQL does not answer"
        found.append(_found("database_unavailable", "warning", message, section.next_step))
    offset_s = section.clock_offset_s
    if offset_s is not None and abs(offset_s) > OFFSET_WARNING_S:
        level: FindingLevel = "error" if abs(offset_s) > OFFSET_ERROR_S else "warning"
        way = "ahead of" if offset_s > 0 else "behind"
        message = f"PostgreSQL's clock is {span(abs(offset_s))} {way} this machine's"
        step = (
            "Let both follow a time server (chrony, systemd-timesyncd): 'timedatectl' shows this one's state."
        )
        found.append(_found("clock_offset", level, message, step))
    return found


def _found(code: str, level: FindingLevel, message: str, step: str | None) -> Finding:
    return Finding(code=code, section="database", level=level, message=message, recommendation=step)
