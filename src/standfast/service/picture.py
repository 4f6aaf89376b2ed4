"""`HealthPicture`: the health of the service as one document, and what is found in it.

Invariant: whoever asks is answered at once, from what was measured last: nothing here waits on PostgreSQL or a session.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from standfast import __version__
from standfast.alerts.records import Trouble
from standfast.health import pool as pool_health
from standfast.health import queries as query_health
from standfast.health import vault as vault_health
from standfast.health.document import (
    AlertCount,
    AlertSection,
    ChannelState,
    Finding,
    Health,
    OpenAlert,
    PoolSection,
    QuerySection,
    SectionName,
    ServiceSection,
)
from standfast.health.keys import KeyWatch
from standfast.health.outage_history import OutageHistory
from standfast.health.verdict import by_weight, verdict_of
from standfast.postgres.pool import Database
from standfast.service.alerting import Alerting
from standfast.service.board import Board
from standfast.service.instruments import Instruments
from standfast.service.node_gauges import Measured, NodeGauges

log = structlog.get_logger(__name__)
ALERTS_SHOWN = 50


class HealthPicture:
    """`health` measures all sections; one that cannot be measured is None and says so among the findings."""

    def __init__(
        self,
        node: str,
        instruments: Instruments,
        database: Database,
        keys: KeyWatch,
        history: OutageHistory,
        board: Board,
        alerts: Alerting,
        gauges: NodeGauges,
        *,
        watches: bool,
    ) -> None:
        self._began = time.monotonic()
        self._node = node
        self._watches = watches
        self._instruments = instruments
        self._thresholds = instruments.thresholds
        self._database = database
        self._keys = keys
        self._history = history
        self._board = board
        self._alerts = alerts
        self._gauges: dict[SectionName, Callable[[bool], Measured]] = {
            "database": gauges.database,
            "pool": self._of_pool,
            "queries": self._of_queries,
            "keys": self._of_keys,
            "vault": self._of_vault,
            "sessions": gauges.sessions,
            "backups": gauges.backups,
            "machine": gauges.machine,
            "alerts": self._of_alerts,
        }

    def health(self, *, verbose: bool = True) -> Health:
        """The whole; without `verbose` the samples, statements and sessions behind it are left out."""
        sections: dict[str, Any] = {}
        found: list[Finding] = []
        for name, gauge in self._gauges.items():
            sections[name], findings = self._measured(name, gauge, verbose)
            found += findings
        found = by_weight(_without_echoes(found))
        return Health(
            verdict=verdict_of(found),
            measured_by="service",
            at=time.time(),
            findings=found,
            service=self._service(),
            **sections,
        )

    def _measured(self, name: SectionName, gauge: Callable[[bool], Measured], verbose: bool) -> Measured:
        try:
            return gauge(verbose)
        except Exception:
            log.exception("a part of health cannot be measured", part=name)
            return None, [
                Finding(
                    code=f"{name}_unknown",
                    section=name,
                    level="unknown",
                    message=f"the part {name!r} cannot be measured",
                    recommendation="See the service's log, and report what it says.",
                )
            ]

    def _of_pool(self, verbose: bool) -> Measured:
        section: PoolSection = self._instruments.pool.section(self._database.statistics(), self._thresholds)
        findings = pool_health.findings(section, self._thresholds)
        if not verbose:
            section.recent = []
        return section, findings

    def _of_queries(self, verbose: bool) -> Measured:
        section: QuerySection = self._instruments.queries.section(self._thresholds)
        findings = query_health.findings(section, self._thresholds)
        if not verbose:
            section.slow, section.failed, section.statements = [], [], []
        return section, findings

    def _of_keys(self, _verbose: bool) -> Measured:
        return self._keys.section(), self._keys.findings() if self._watches else []

    def _of_vault(self, _verbose: bool) -> Measured:
        section = vault_health.vault_section(self._board.vault(), self._history)
        return section, vault_health.findings(section, self._thresholds)

    def _of_alerts(self, _verbose: bool) -> Measured:
        states, troubles = self._alerts.channels(), self._alerts.troubles()
        channels = [
            ChannelState(
                name=one.name,
                waiting=one.waiting,
                delivered=one.delivered,
                delivered_at=one.delivered_at,
                error=one.error,
            )
            for one in states
        ]
        goes_on = [
            OpenAlert(
                name=one.incident.name,
                level=one.level,
                message=one.incident.message,
                since=one.incident.since,
                count=one.incident.count,
                company=one.incident.company,
                next_step=one.incident.next_step,
            )
            for one in reversed(troubles[-ALERTS_SHOWN:])
        ]
        findings = [
            Finding(
                code="alert_channel_failing",
                section="alerts",
                level="warning",
                message=f"alerts do not reach {one.name}: {one.error}",
                recommendation=one.next_step or f"Try it: standfast alerts test {one.name}",
                subject=one.name,
            )
            for one in states
            if one.error is not None
        ]
        return AlertSection(open=goes_on, counts=_counts(troubles), channels=channels), findings

    def _service(self) -> ServiceSection:
        return ServiceSection(
            version=__version__,
            python=sys.version.split()[0],
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._began, 1),
            node=self._node,
            monitoring=self._watches,
        )


def _counts(troubles: Iterable[Trouble]) -> list[AlertCount]:
    counted = Counter((one.incident.name, one.level) for one in troubles)
    return [
        AlertCount(name=name, level=level, count=count) for (name, level), count in sorted(counted.items())
    ]


def _without_echoes(findings: list[Finding]) -> list[Finding]:
    """In an outage the vault says what is wrong and what to do; that a look at PostgreSQL failed too says no more."""
    if not any(one.code == "outage" for one in findings):
        return findings
    return [one for one in findings if one.code != "database_unavailable"]
