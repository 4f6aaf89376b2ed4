"""`HttpServer`: uvicorn in the service's own loop, on a socket that is bound before the service says that it is up.

Invariant: signals stay the service's; `stop` ends every connection within seconds, streams in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

from standfast.api.protocol import BoundedProtocol
from standfast.errors import PortInUse, SettingsError

log = structlog.get_logger(__name__)
BACKLOG = 512
KEEP_ALIVE_S = 30
STOP_TIMEOUT_S = 2
_START_TIMEOUT_S = 5.0


class HttpServer:
    """`bind()`, then `start()`; `url` is known in between."""

    def __init__(self, host: str, port: int, *, any_port: bool = False) -> None:
        """`any_port`: where `port` is taken, another one is as good."""
        self._host = host
        self._port = port
        self._any_port = any_port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where it listens; only after `bind()`."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def bind(self) -> None:
        """Take the address. Raises `PortInUse`, or `SettingsError` for one that cannot be."""
        try:
            self._socket = self._bound(self._port)
        except PortInUse:
            if not self._any_port:
                raise
            self._socket = self._bound(0)

    async def start(self, app: ASGIApp, closing: asyncio.Event) -> None:
        """Serve; `closing` is set when it ends, so that what has no end of its own ends in order."""
        assert self._socket is not None
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # whoever sends nonsense shall not fill the log
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
        )
        self._closing = closing
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http")
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not self._server.started and not self._serving.done():
                await asyncio.wait({self._serving}, timeout=0.005)  # uvicorn tells nobody
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Take no more requests, and end those there are."""
        if self._closing is not None:
            self._closing.set()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait({self._serving}, timeout=STOP_TIMEOUT_S + 1.0)
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._serving
        if self._socket is not None:
            self._socket.close()

    def _bound(self, port: int) -> socket.socket:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self._host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
            )[0]
        except OSError as error:
            raise SettingsError(
                f"STANDFAST_HTTP_HOST={self._host} is no address of this machine: {error.strerror}",
                next_step="Use 127.0.0.1, ::1, 0.0.0.0, or an address that this machine has.",
            ) from error
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise self._refusal(port, error) from error
        return listening

    def _refusal(self, port: int, error: OSError) -> Exception:
        if error.errno == errno.EADDRINUSE:
            return PortInUse(
                f"{self._host}:{port} is taken by another program",
                next_step="Stop it, or choose another with STANDFAST_HTTP_PORT (0: any one); STANDFAST_HTTP=off: none.",
            )
        return SettingsError(
            f"HTTP cannot be served at {self._host}:{port}: {error.strerror}",
            next_step="Correct STANDFAST_HTTP_HOST and STANDFAST_HTTP_PORT.",
        )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
