"""`Monitor`: looks at everything every ten seconds, and raises what it finds as alerts.

Invariant: what is alerted is what health shows, from the same findings; a look that fails is logged, counted and shown,
and the next one comes all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from standfast.alert import Alert, AlertSink, Level
from standfast.health.document import Finding

log = structlog.get_logger(__name__)

# For how long a finding must be gone before its trouble counts as over. What is measured seldom ends at once.
CLEAR_S: Mapping[str, float] = {
    "slow_queries": 0.0,  # it looks back over five minutes by itself
    "queries_failing": 0.0,
    "pool_usage_high": 60.0,
    "pool_exhausted": 60.0,
    "server_connections_high": 300.0,
    "expired_keys": 0.0,
    "disk_low": 60.0,
    "fds_high": 60.0,
    "memory_low": 60.0,
    "event_loop_slow": 60.0,
    "clock_offset": 60.0,
    "clock_jumped": 0.0,
    "backup_old": 0.0,
    "backup_none": 0.0,
    "backup_unreadable": 60.0,
}
"""The codes of findings that become alerts, each with that time. All others are shown only: what they tell of is
alerted by the room in which it happens, the moment that it happens."""
UNKNOWN = "_unknown"
"""How the codes of findings end which say that their section could not be measured."""

_ALERT_LEVELS: Mapping[str, Level] = {"warning": "warning", "error": "error", "critical": "critical"}


@dataclass(frozen=True, slots=True)
class Pace:
    """When the first look comes, and how long it is between two; `clear` stretches or shortens `CLEAR_S`."""

    delay_s: float = 5.0
    interval_s: float = 10.0
    keys_interval_s: float = 300.0
    clear: float = 1.0


class Monitor:
    """`look` measures and gives the findings. `open_alerts` gives the alerts that stand open, told by an earlier run
    too: those of this table which the first look does not find are over."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Iterable[Finding]]],
        alerts: AlertSink,
        open_alerts: Callable[[], Iterable[Alert]] = tuple,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._alerts = alerts
        self._open_alerts = open_alerts
        self._pace = pace or Pace()
        self._clock = clock
        self._seen: dict[str, tuple[Alert, float]] | None = None  # by fingerprint, with when it was last seen
        self.failures = 0

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(self._pace.delay_s)
        while True:
            started = self._clock()
            try:
                self.judge(await self._look())
            except Exception:
                self.failures += 1
                log.exception("looking at the service's health failed")
            await asyncio.sleep(max(0.0, started + self._pace.interval_s - self._clock()))

    def judge(self, findings: Iterable[Finding]) -> None:
        """Raise what was found, and end what has been gone for long enough."""
        now = self._clock()
        if self._seen is None:
            self._seen = {one.fingerprint: (one, now) for one in self._open_alerts() if one.name in CLEAR_S}
        unseen: set[str] = set()  # sections of which nothing is known: that ends nothing
        for finding in findings:
            if finding.code.endswith(UNKNOWN):
                unseen.add(finding.section)
            if finding.code in CLEAR_S and finding.level in _ALERT_LEVELS:
                alert = _alert(finding)
                self._seen[alert.fingerprint] = (alert, now)
                self._alerts.take(alert)
        for fingerprint, (alert, last) in list(self._seen.items()):
            if alert.tags.get("section") in unseen:
                self._seen[fingerprint] = (alert, now)
            elif last < now and now - last >= CLEAR_S[alert.name] * self._pace.clear:
                del self._seen[fingerprint]
                self._alerts.take(_ended(alert))


def _alert(finding: Finding) -> Alert:
    facts: dict[str, Any] = {"next_step": finding.recommendation} if finding.recommendation else {}
    return Alert(
        finding.code,
        _ALERT_LEVELS[finding.level],
        finding.message,
        _tags(finding),
        facts,
        lasts=True,
    )


def _tags(finding: Finding) -> dict[str, str]:
    tags = {"component": "health", "section": finding.section}
    if finding.company is not None:
        tags["company_id"] = finding.company
    if finding.subject is not None:
        tags["subject"] = finding.subject
    return tags


def _ended(alert: Alert) -> Alert:
    return Alert(
        f"{alert.name}_over",
        "info",
        f"over: {alert.message}",
        alert.tags,
        ends=(alert.name,),
        quiet=True,
    )
