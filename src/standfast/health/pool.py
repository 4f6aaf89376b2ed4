"""`PoolHistory`: how much of the connection pool was in use, over the last hour.

Invariant: a short peak between two samples is seen, and one that is over within a second rings for nobody.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from standfast.health.document import Finding, PoolHolder, PoolSample, PoolSection, ServerConnections
from standfast.health.outages import OutageTimes
from standfast.health.thresholds import SLOW_WINDOW_S, WAITING_ALERT, Thresholds
from standfast.postgres.pool import Database, PoolStatistics, Statement

KEPT = 360
SHOWN = 10
LASTING_S = 1.0  # what is over sooner is a burst, which a pool is there to take
SERVER_SHARE = 0.9
_WINDOW_S = 10.0
_TIMEOUTS_KEPT = 1_000
# The whole server's, in a form that every account may read; those in reserve are for superusers.
_SERVER = Statement(
    "server.connections",
    "select (select coalesce(sum(numbackends), 0) from pg_stat_database)::int,"
    " (select sum(setting::int * case name when 'max_connections' then 1 else -1 end) from pg_settings"
    "  where name in ('max_connections', 'superuser_reserved_connections', 'reserved_connections'))::int",
)


@dataclass(slots=True)
class _Pressure:
    """For how long too much was asked of the pool, in a stretch of time of its own, whoever takes samples when."""

    began_s: float
    ended_s: float
    busy_s: float = 0.0
    crowded_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Kept:
    """What happened between two samples, and how the pool was at the end. `held_s` adds up for how long each connection
    was in use: no moment counts more than another."""

    began_s: float
    ended_s: float
    held_s: float
    peak_active: int
    peak_waiting: int
    statistics: PoolStatistics


class PoolHistory:
    """The `PoolObserver` of one pool of `max_size` connections; `sample` is to be called every 10 s."""

    def __init__(
        self, max_size: int, thresholds: Thresholds | None = None, outages: OutageTimes | None = None
    ) -> None:
        self.server: ServerConnections | None = None
        self._max_size = max_size
        self._busy_above = math.floor((thresholds or Thresholds()).pool_usage * max_size)
        self._outages = outages or OutageTimes()
        self.quiet_up_to = 0
        self._active = self._waiting = 0
        self._began_s = self._changed_s = time.monotonic()
        self._held_s = 0.0
        self._peak_active = self._peak_waiting = 0
        self._pressure = _Pressure(self._began_s, self._began_s)
        self._pressure_before = _Pressure(self._began_s, self._began_s)
        self._kept: deque[_Kept] = deque(maxlen=KEPT)
        self._timeouts: deque[float] = deque(maxlen=_TIMEOUTS_KEPT)

    def on_use(self, now_s: float, active: int, waiting: int) -> None:
        """Told only of what is a new peak or a pool in heavy use: all else is in the statistics of the next sample."""
        self._pass(now_s)
        self._active, self._waiting = active, waiting
        self._peak_active = max(active, self._peak_active)
        self._peak_waiting = max(waiting, self._peak_waiting)
        self.quiet_up_to = min(self._busy_above, self._peak_active)

    def on_timeout(self, now_s: float) -> None:
        self._timeouts.append(now_s)

    def _pass(self, now_s: float) -> None:
        """Things were as they were until now."""
        passed_s, self._changed_s = now_s - self._changed_s, now_s
        if self._active > self._busy_above:
            self._press(now_s, passed_s)

    def _press(self, now_s: float, passed_s: float) -> None:
        pressure = self._pressure
        if now_s - pressure.began_s > _WINDOW_S:
            passed_s = min(passed_s, _WINDOW_S)
            self._pressure_before = pressure
            pressure = self._pressure = _Pressure(max(pressure.ended_s, now_s - _WINDOW_S), now_s)
        pressure.ended_s = now_s
        pressure.busy_s += passed_s
        if self._waiting > WAITING_ALERT and self._active >= self._max_size:
            pressure.crowded_s += passed_s

    def sample(self, statistics: PoolStatistics) -> None:
        """Keep how the pool is, and how it was since the last sample."""
        self._pass(time.monotonic())
        self._outages.note()
        self._kept.append(self._now(statistics))
        self._began_s, self._held_s = self._changed_s, statistics.held_s
        self._active, self._waiting = statistics.active, statistics.waiting
        self._peak_active, self._peak_waiting = self._active, self._waiting
        self.quiet_up_to = min(self._busy_above, self._peak_active)

    def _now(self, statistics: PoolStatistics) -> _Kept:
        return _Kept(
            self._began_s,
            self._changed_s,
            statistics.held_s - self._held_s,
            self._peak_active,
            self._peak_waiting,
            statistics,
        )

    async def look_at_server(self, database: Database) -> None:
        """Learn how many connections the server has left; raises like every call. Every few minutes is enough."""
        used, limit = (await database.fetch(_SERVER))[0]
        self.server = ServerConnections(used=used, limit=limit)

    def section(self, statistics: PoolStatistics, thresholds: Thresholds) -> PoolSection:
        """How the pool is, and was."""
        now_s = time.monotonic()
        self._pass(now_s)
        self._outages.note()
        kept = [*self._kept, self._now(statistics)]
        late = self._late(now_s)
        return PoolSection(
            max_size=statistics.max_size,
            size=statistics.size,
            idle=statistics.idle,
            active=statistics.active,
            waiting=statistics.waiting,
            usage=statistics.active / statistics.max_size,
            average_usage=self._average(kept),
            peak_usage=max(one.peak_active for one in kept) / statistics.max_size,
            peak_active=max(one.peak_active for one in kept),
            peak_waiting=max(one.peak_waiting for one in kept),
            timeouts=statistics.timeouts,
            threshold=thresholds.pool_usage,
            samples=len(self._kept),
            busy_s=math.fsum(one.busy_s for one in late),
            crowded_s=math.fsum(one.crowded_s for one in late),
            timeouts_5min=sum(
                at_s > now_s - SLOW_WINDOW_S and not self._outages.met(at_s, at_s) for at_s in self._timeouts
            ),
            holders=[PoolHolder(name=one.name, held_s=one.held_s) for one in statistics.holders[:SHOWN]],
            server=self.server,
            recent=self._recent(now_s),
        )

    def _average(self, kept: Sequence[_Kept]) -> float:
        passed_s = kept[-1].ended_s - kept[0].began_s
        if passed_s <= 0:
            return 0.0
        return math.fsum(one.held_s for one in kept) / (passed_s * self._max_size)

    def _late(self, now_s: float) -> list[_Pressure]:
        """Of the last seconds, but for what an outage explains."""
        return [
            one
            for one in (self._pressure_before, self._pressure)
            if one.ended_s > now_s - _WINDOW_S and not self._outages.met(one.began_s, one.ended_s)
        ]

    def _recent(self, now_s: float) -> list[PoolSample]:
        """Times are of the wall clock as it goes now."""
        wall = time.time()
        return [
            PoolSample(
                at=wall - (now_s - kept.ended_s),
                size=kept.statistics.size,
                idle=kept.statistics.idle,
                active=kept.statistics.active,
                waiting=kept.statistics.waiting,
                usage=kept.statistics.active / kept.statistics.max_size,
                average_usage=self._average([kept]),
                peak_active=kept.peak_active,
                peak_waiting=kept.peak_waiting,
            )
            for kept in list(self._kept)[-SHOWN:]
        ]


def findings(section: PoolSection, thresholds: Thresholds) -> list[Finding]:
    """What of it an operator should know."""
    return [*_exhausted(section), *_busy(section, thresholds), *_server(section)]


def _exhausted(section: PoolSection) -> list[Finding]:
    if section.crowded_s < LASTING_S and not section.timeouts_5min:
        return []
    said = []
    if section.crowded_s >= LASTING_S:
        said.append(f"more than {WAITING_ALERT} calls waited for {section.crowded_s:.0f} s of the last 20")
    if section.timeouts_5min:
        said.append(f"{section.timeouts_5min} calls got none in time within 5 minutes")
    return [
        Finding(
            code="pool_exhausted",
            section="pool",
            level="error",
            message=f"all {section.max_size} database connections were in use: {', '.join(said)}{_held(section)}",
            recommendation=_raise_step(section),
        )
    ]


def _busy(section: PoolSection, thresholds: Thresholds) -> list[Finding]:
    if section.busy_s < LASTING_S:
        return []
    return [
        Finding(
            code="pool_usage_high",
            section="pool",
            level="warning",
            message=(
                f"more than {thresholds.pool_usage:.0%} of the {section.max_size} database connections were in use for "
                f"{section.busy_s:.0f} s of the last 20{_held(section)}"
            ),
            recommendation=_raise_step(section),
        )
    ]


def _server(section: PoolSection) -> list[Finding]:
    server = section.server
    if server is None or server.used < SERVER_SHARE * server.limit:
        return []
    return [
        Finding(
            code="server_connections_high",
            section="pool",
            level="warning",
            message=f"{server.used} of the {server.limit} connections that PostgreSQL gives to all clients are in use",
            recommendation=(
                "Close clients that nobody needs (select application_name, client_addr, count(*) from pg_stat_activity "
                "group by 1, 2), or raise PostgreSQL's max_connections and restart it."
            ),
        )
    ]


def _held(section: PoolSection) -> str:
    if not section.holders:
        return ""
    oldest = section.holders[0]
    return f"; longest held by '{oldest.name}', for {oldest.held_s:.1f} s"


def _raise_step(section: PoolSection) -> str:
    step = f"Raise POSTGRES_MAX_CONNECTIONS (now {section.max_size}) and restart the service"
    if section.server is not None:
        spare = max(0, section.server.limit - section.server.used)
        step += f"; PostgreSQL has {spare} connections left for all clients"
    return f"{step}. If one statement holds them for long, look at that first: standfast health --verbose."
