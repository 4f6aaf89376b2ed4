"""`HttpDoor`: the HTTP API as the service opens and closes it.

Invariant: its address is taken before anything slow is started, so that a port in use ends a start at once; nothing is
answered before there is something to answer with.
"""

from __future__ import annotations

from pathlib import Path

from standfast.api.app import make_app
from standfast.api.guard import Guard
from standfast.api.parts import Parts
from standfast.api.server import HttpServer
from standfast.api.token_file import TokenFile
from standfast.settings import Settings


class HttpDoor:
    """`bind()` first, `start()` once the service can answer, `stop()` before what answers is ended."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.guard = Guard(TokenFile(directory), settings.http_host)
        # The simulator's service is for trying out: any address is as good, the one shown counts.
        self._server = HttpServer(settings.http_host, settings.http_port, any_port=settings.is_simulated)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def bind(self) -> None:
        """Raises `PortInUse`, or `SettingsError` where others could reach it and nobody has a token."""
        self.guard.check_start()
        self._server.bind()

    async def start(self, parts: Parts) -> None:
        await self._server.start(make_app(parts), parts.closing)

    async def stop(self) -> None:
        await self._server.stop()
