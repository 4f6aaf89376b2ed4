"""`CommandAlerts`: what a command's job has to tell reaches operators as if the service had run it.

Invariant: a job's outcome never depends on whether it could be told; what a channel did not take in time is on disk for
the next process that delivers alerts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import structlog

from standfast.alert import Alert, AlertSink, LoggedAlerts
from standfast.errors import StandfastError
from standfast.service.client import connect
from standfast.service.offline import held_directory, service_runs
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

log = structlog.get_logger(__name__)
DELIVER_TIMEOUT_S = 15.0


class CommandAlerts:
    """Gathers alerts while a job runs; `deliver` once it holds the state directory no longer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logged = LoggedAlerts()
        self._taken: list[Alert] = []

    def take(self, alert: Alert) -> None:
        """See `AlertSink`."""
        self._logged.take(alert)
        self._taken.append(alert)

    async def deliver(self) -> None:
        """Hand them to the running service's desk; where none runs, to a desk of this process on the same files, so
        that what was told already is not told again. Takes 15 s at most, and never raises."""
        if not self._taken:
            return
        try:
            async with asyncio.timeout(DELIVER_TIMEOUT_S):
                if service_runs(self._settings):
                    await self._by_service()
                else:
                    await self._here()
        except (StandfastError, TimeoutError, OSError) as error:
            reason = error.message if isinstance(error, StandfastError) else type(error).__name__
            log.warning("operators were not told of what this command found", reason=reason)

    async def _by_service(self) -> None:
        params = {"alerts": [msgspec.to_builtins(alert) for alert in self._taken]}
        async with connect(StateDirectory(self._settings.state_dir).gateway_socket) as client:
            await client.job("alerts.raise", params, DELIVER_TIMEOUT_S)

    async def _here(self) -> None:
        # Channels are slow to import, and a command that has something to tell is rare.
        from standfast.service.alerting import Alerting
        from standfast.sessions.events import EventBus
        from standfast.vault.clock import SystemClock

        async with held_directory(self._settings, "alerts"):
            alerting = Alerting(self._settings, EventBus(), SystemClock())
            async with alerting.open():
                for alert in self._taken:
                    alerting.take(alert)


@contextlib.asynccontextmanager
async def told(settings: Settings, alerts: AlertSink | None) -> AsyncIterator[AlertSink]:
    """The sink of a command's job: `alerts`, or one whose alerts are delivered at the end, be it a failure."""
    if alerts is not None:
        yield alerts
        return
    gathered = CommandAlerts(settings)
    try:
        yield gathered
    except StandfastError:
        await gathered.deliver()
        raise
    await gathered.deliver()
