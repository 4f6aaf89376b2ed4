"""`Monitoring`: the service's health as one document, and the watch over it.

Invariant: whoever asks is answered at once, from what was measured last; nothing that `health` does waits on PostgreSQL
or a session.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from standfast import __version__
from standfast.alert import AlertSink
from standfast.errors import StandfastError
from standfast.health import pool as pool_health
from standfast.health import queries as query_health
from standfast.health.document import Finding, Health, ServiceSection, as_wire
from standfast.health.keys import KeyWatch
from standfast.health.monitor import Monitor, Pace
from standfast.health.outages import OutageTimes
from standfast.health.pool import PoolHistory
from standfast.health.queries import QueryMetrics
from standfast.health.thresholds import thresholds_of
from standfast.health.verdict import by_weight, verdict_of
from standfast.postgres.observing import Observers
from standfast.postgres.pool import Database
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection
from standfast.settings import Settings
from standfast.vault.outage import State
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
KEYS_RETRY_S = 30.0


class GetHealth(msgspec.Struct):
    """Params of `health.get`."""

    verbose: bool = False


class Instruments:
    """What measures from the first statement on; made before the database is opened."""

    def __init__(self, settings: Settings) -> None:
        self.thresholds = thresholds_of(settings)
        self.outages = OutageTimes()
        self.queries = QueryMetrics(self.thresholds, self.outages)
        self.pool = PoolHistory(settings.postgres_max_connections, self.thresholds, self.outages)

    @property
    def observers(self) -> Observers:
        return Observers(self.queries, self.pool)


class Monitoring:
    """`run` watches until it is cancelled; `health` is answered whether or not it runs."""

    def __init__(
        self,
        settings: Settings,
        instruments: Instruments,
        database: Database,
        vault: Vault,
        alerts: AlertSink,
        pace: Pace | None = None,
    ) -> None:
        self._began = time.monotonic()
        self._pace = pace or Pace()
        self._watches = settings.auto_start_monitoring
        self._instruments = instruments
        self._thresholds = instruments.thresholds
        self._database = database
        self._vault = vault
        node = vault.replica.node
        self._keys = KeyWatch(database, node, vault.options.node_name, self._thresholds)
        self._monitor = Monitor(self._look, alerts, pace=self._pace)
        instruments.outages.is_away = self._is_away

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"health.get": self._get}

    async def run(self) -> None:
        """Watch until cancelled; at once over where the settings say that nothing is to be watched."""
        if not self._watches:
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._monitor.run())
                group.create_task(self._count_keys())
        finally:
            await self._keys.close()

    async def _look(self) -> Iterable[Finding]:
        self._instruments.pool.sample(self._database.statistics())
        return self.health().findings

    async def _count_keys(self) -> None:
        await asyncio.sleep(self._pace.delay_s)
        while True:
            try:
                if not self._is_away():
                    await self._keys.tick()
                    await self._instruments.pool.look_at_server(self._database)
                pause_s = self._pace.keys_interval_s if self._keys.section() is not None else KEYS_RETRY_S
            except StandfastError as error:
                log.info("PostgreSQL does not tell its connections", error=error.message)
                pause_s = KEYS_RETRY_S
            except Exception:
                log.exception("counting the keys failed")
                pause_s = self._pace.keys_interval_s
            await asyncio.sleep(pause_s)

    async def _get(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return as_wire(self.health(verbose=checked(GetHealth, params).verbose))

    def health(self, *, verbose: bool = True) -> Health:
        """The whole picture; without `verbose` the samples, statements and sessions behind it are left out."""
        thresholds, instruments = self._thresholds, self._instruments
        queries = instruments.queries.section(thresholds)
        pool = instruments.pool.section(self._database.statistics(), thresholds)
        found = [
            *query_health.findings(queries, thresholds),
            *pool_health.findings(pool, thresholds),
            *self._keys.findings(),
        ]
        if not verbose:
            queries.slow, queries.failed, queries.statements = [], [], []
            pool.recent = []
        findings = by_weight(found)
        return Health(
            verdict=verdict_of(findings),
            measured_by="service",
            at=time.time(),
            findings=findings,
            service=self._service(),
            queries=queries,
            pool=pool,
            keys=self._keys.section(),
        )

    def _service(self) -> ServiceSection:
        return ServiceSection(
            version=__version__,
            python=sys.version.split()[0],
            pid=os.getpid(),
            uptime_s=round(time.monotonic() - self._began, 1),
            node=self._vault.options.node_name,
            monitoring=self._watches,
        )

    def _is_away(self) -> bool:
        outage = self._vault.outage
        return outage.outage_started is not None and outage.state is not State.ONLINE
