"""`Monitoring`: the watch over the service's health, and who asks for it over the gateway.

Invariant: what fails here is logged and comes again; it stops nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from standfast.errors import StandfastError
from standfast.health.document import Finding, as_wire
from standfast.health.keys import KeyWatch
from standfast.health.monitor import Monitor, Pace
from standfast.postgres.pool import Database
from standfast.service.alerting import Alerting
from standfast.service.foundation import together
from standfast.service.instruments import Instruments
from standfast.service.params import checked
from standfast.service.picture import HealthPicture
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


class Monitoring:
    """`run` watches until it is cancelled; who asks is answered whether or not it runs."""

    def __init__(
        self,
        settings: Settings,
        instruments: Instruments,
        database: Database,
        vault: Vault,
        keys: KeyWatch,
        picture: HealthPicture,
        alerts: Alerting,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._watches = settings.auto_start_monitoring
        self._instruments = instruments
        self._database = database
        self._vault = vault
        self._keys = keys
        self._picture = picture
        self._monitor = Monitor(self._look, alerts, alerts.open_alerts, pace=self._pace)
        instruments.outages.is_away = self._is_away
        instruments.outages.is_suspected = lambda: vault.outage.state is State.SUSPECT

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"health.get": self._get}

    async def run(self) -> None:
        """Watch until cancelled; at once over where the settings say that nothing is to be watched."""
        if not self._watches:
            return
        try:
            await together(self._monitor.run(), self._count_keys())
        finally:
            await self._keys.close()

    async def _look(self) -> Iterable[Finding]:
        self._instruments.pool.sample(self._database.statistics())
        return self._picture.health().findings

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
        return as_wire(self._picture.health(verbose=checked(GetHealth, params).verbose))

    def _is_away(self) -> bool:
        outage = self._vault.outage
        return outage.outage_started is not None and outage.state is not State.ONLINE
