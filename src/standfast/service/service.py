"""The service: every room wired together, started and stopped as one.

Invariant: `stop` undoes what `start` did, in reverse order, also when `start` failed half way.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from standfast import __version__
from standfast.errors import StandfastError
from standfast.node import bridge_directory, node_binary
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.service.database import open_database
from standfast.service.operators import Operators
from standfast.service.roster import DatabaseRoster
from standfast.service.simulator import Simulator
from standfast.sessions.backoff import Backoff
from standfast.sessions.engine import Engine, EngineOptions, HostCommand
from standfast.sessions.events import EventBus
from standfast.sessions.gateway import Gateway
from standfast.sessions.pool import SessionPool
from standfast.sessions.wire import Limits
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

log = structlog.get_logger(__name__)
WATCH_INTERVAL_S = 2.0
CANCEL_INTERVAL_S = 0.2
_VERSION = Statement(
    "server.version", "select 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)"
)


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What a service is told beside its settings: mostly for the simulator and for tests."""

    host_environment: Mapping[str, str] = field(default_factory=dict)
    with_simulator: bool = False
    gateway_only: bool = False
    backoff: Backoff = field(default_factory=Backoff)
    engine: EngineOptions = field(default_factory=EngineOptions)
    limits: Limits = field(default_factory=Limits)


class Service:
    """`async with Service(settings) as service:` runs everything; `service.pool` drives sessions."""

    def __init__(self, settings: Settings, options: ServiceOptions | None = None) -> None:
        self.settings = settings
        self.options = options or ServiceOptions()
        self.bus = EventBus()
        self.state = StateDirectory(settings.state_dir)
        self._stack = contextlib.AsyncExitStack()
        self._started_at = time.monotonic()
        self._database_state: dict[str, Any] = {"state": "unknown"}
        self._host_stats: dict[str, Any] = {}
        self._server_version: str | None = None
        self.simulator: Simulator | None = None
        self.database: Database
        self.gateway: Gateway
        self.engine: Engine
        self.pool: SessionPool

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start database, gateway, Node host and the wanted sessions; raises the error of what failed,
        with everything ended again."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        self._started_at = time.monotonic()
        # Found before anything is started: a missing Node is the commonest mistake of a new machine.
        node, bridge = self._node_and_bridge()
        self.state.acquire()
        self._stack.callback(self.state.release)
        if self.options.with_simulator:
            self.simulator = Simulator(self.state.path / "whatsapp", node, bridge)
            self._stack.push_async_callback(self.simulator.stop)
            await self.simulator.start()
        self.database = await self._stack.enter_async_context(open_database(self.settings, owner=True))
        await migrate(self.database)
        store = PostgresAuthStore(self.database)
        roster = DatabaseRoster(self.database, store, self.state.path / "archive")
        self.pool = SessionPool(roster, self.bus, self.options.backoff, self.state.path / "recent")
        self.gateway = Gateway(
            self.state.gateway_socket, store, f"standfast/{__version__}", self.options.limits
        )
        self.engine = Engine(self._host_command(node, bridge), self.pool, self.options.engine)
        self.pool.use_host(self.engine)
        operators = Operators(self.pool, self.bus, self.status, self.settings.default_region)
        self.gateway.serve_hosts(self.engine)
        self.gateway.serve_operators(operators.methods(), operators.gone)
        await self.gateway.start()
        self._stack.push_async_callback(self.gateway.stop)
        self._stack.callback(self.pool.release)
        if not self.options.gateway_only:
            await self.engine.start()
            self._stack.push_async_callback(self.engine.stop)
            self._stack.push_async_callback(self.pool.close)
            await self.pool.start_wanted()
        watch = asyncio.create_task(self._watch(), name="watch")
        self._stack.push_async_callback(_cancelled, watch)

    def _server(self) -> str:
        kind = "embedded" if self.settings.database_is_embedded else "external"
        return f"{self._server_version or 'PostgreSQL'} ({kind})"

    async def stop(self) -> None:
        """End sessions, host, gateway and database, and give the state directory back."""
        await self._stack.aclose()

    def _node_and_bridge(self) -> tuple[Path, Path]:
        if self.options.gateway_only:
            return Path("node"), Path()
        return node_binary(self.settings.node_binary), bridge_directory(self.settings.bridge_dir)

    def _host_command(self, node: Path, bridge: Path) -> HostCommand:
        simulated = self.simulator.host_environment() if self.simulator else {}
        environment = {"STANDFAST_LOG": "warn", **simulated, **self.options.host_environment}
        return HostCommand((str(node), str(bridge / "host.mjs")), self.state.gateway_socket, environment)

    async def _watch(self) -> None:
        while True:
            await self._look_at_database()
            await self._look_at_host()
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def _look_at_database(self) -> None:
        try:
            latency_s = await self.database.ping()
            if self._server_version is None:
                self._server_version = (await self.database.fetch(_VERSION))[0][0]
        except StandfastError as error:
            self._database_state = {
                "state": "unavailable",
                "error": error.message,
                "next_step": error.next_step,
            }
            return
        self._database_state = {
            "state": "online",
            "latency_ms": round(latency_s * 1000, 2),
            "server": self._server(),
            "connections": self.database.statistics().size,
        }

    async def _look_at_host(self) -> None:
        try:
            raw = await self.engine.request("host.stats", {}, timeout_s=5.0)
        except StandfastError:
            self._host_stats = {}
            return
        self._host_stats = msgspec.json.decode(raw)

    async def status(self) -> dict[str, Any]:
        """The operator's picture; the schema of `standfast status --json`."""
        return {
            "service": f"standfast/{__version__}",
            "uptime_s": round(time.monotonic() - self._started_at, 1),
            "simulator": self.simulator.ready.admin if self.simulator else None,
            "python": sys.version.split()[0],
            "state_dir": str(self.state.path),
            "gateway": str(self.gateway.path),
            "database": self._database_state,
            "host": {
                "pid": self.engine.pid,
                "ready": self.engine.is_ready,
                "restarts": self.engine.restarts,
                "rss_mb": round(self._host_stats.get("rss_bytes", 0) / 2**20, 1),
                "event_loop_delay_ms": self._host_stats.get("event_loop_delay_ms"),
            },
            "sessions": [session.as_wire() for session in self.pool.sessions()],
        }


async def _cancelled(task: asyncio.Task[None]) -> None:
    # Before Python 3.12 `asyncio.wait_for`, which the database pool waits with, loses a cancellation that comes
    # together with its result; a loop that catches it only once would then never end.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_INTERVAL_S)
