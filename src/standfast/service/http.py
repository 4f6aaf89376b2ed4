"""`HttpDoor`: the HTTP API as the service opens and closes it.

Invariant: its address is taken before anything slow is started, so that a port in use ends a start at once; nothing is
answered before there is something to answer with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from standfast.api.app import make_app
from standfast.api.guard import Guard
from standfast.api.metrics import PATH as METRICS_PATH
from standfast.api.parts import AlertsOf, Parts
from standfast.api.server import HttpServer
from standfast.api.token_file import TokenFile
from standfast.errors import StandfastError
from standfast.health.document import Health
from standfast.health.metrics import Metrics
from standfast.health.metrics.jobs import JobFigures
from standfast.health.queries import Tally
from standfast.health.thresholds import thresholds_of
from standfast.messaging.messenger import Messenger
from standfast.service.operators import pairing_of
from standfast.sessions.hosts import Hosts
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Pairing
from standfast.settings import Settings
from standfast.vault.vault import Vault


class HttpDoor:
    """`bind()` first, `start()` once the service can answer, `stop()` before what answers is ended."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        public = (METRICS_PATH,) if settings.metrics == "open" else ()
        self._guard = Guard(TokenFile(directory), settings.http_host, public=public)
        # The simulator's service is for trying out: any address is as good, the one shown counts.
        self._server = HttpServer(settings.http_host, settings.http_port, any_port=settings.is_simulated)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def bind(self) -> None:
        """Raises `PortInUse`, or `SettingsError` where others could reach it and nobody has a token."""
        self._guard.check_start()
        self._server.bind()

    async def start(
        self,
        pool: SessionPool,
        messenger: Messenger,
        status: Callable[[], Awaitable[dict[str, Any]]],
        vault: Vault,
        hosts: Hosts,
        alerts: AlertsOf,
        health: Callable[[], Health] | None = None,
        statements: Callable[[], Mapping[str, Tally]] = dict,
        jobs: Callable[[], JobFigures] = JobFigures,
    ) -> None:
        """Answer from these; without `health` there are no metrics."""

        def missing() -> list[str]:
            found = [] if any(member.engine.is_ready for member in hosts.members) else ["host"]
            try:
                vault.check_writable()
            except StandfastError as error:
                found.append(error.code)
            return found

        log = messenger.mailbox.log
        metrics = None
        if health is not None and self._settings.metrics != "off":

            def wires() -> list[dict[str, Any]]:
                return [session.as_wire() for session in pool.sessions()]

            metrics = Metrics(health, wires, statements, thresholds_of(self._settings), jobs)
        parts = Parts(pool, messenger, log, status, missing, self._pairing, self._guard, alerts, metrics)
        await self._server.start(make_app(parts), parts.closing)

    async def stop(self) -> None:
        await self._server.stop()

    def _pairing(self, by: Literal["qr", "code"], phone: str | None, fallback: bool | None) -> Pairing:
        follows = self._settings.pairing_fallback if fallback is None else fallback
        return pairing_of(by, phone, self._settings.default_region, fallback=follows)
