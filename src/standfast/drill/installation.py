"""`Installation`: the real parts that a drill rehearses on, all of its own.

Invariant: all of it lies in one directory below the configured state directory, and nothing of the configured
installation is read or touched: not its database, its vault, its sessions or its channels.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from standfast.drill.outages import Outages
from standfast.drill.plan import Plan
from standfast.drill.processes import ServiceProcess, leashed
from standfast.drill.receiver import Receiver
from standfast.errors import StateDirectoryError
from standfast.node import bridge_directory, node_binary
from standfast.postgres.embedded import EmbeddedServer
from standfast.service.simulator import Simulator
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

_NAME = "drill"
_PARTS = "p"
_LOGS = "logs"


@dataclass(frozen=True, slots=True)
class Installation:
    """`first` and `second` are two nodes on one database; at most one of them runs at a time."""

    root: Path
    node: Path
    bridge: Path
    server: EmbeddedServer
    simulator: Simulator
    receiver: Receiver
    outages: Outages
    services: dict[str, ServiceProcess] = field(default_factory=dict)

    @property
    def folders(self) -> Path:
        """Where the second node keeps folders when it stands on files."""
        return self.root / "files"

    def service(self, name: str) -> ServiceProcess:
        return self.services[name]


@contextlib.asynccontextmanager
async def installed(settings: Settings, plan: Plan, logs_to: Path) -> AsyncIterator[Installation]:
    """Everything but the services is started. Where it does not end well its logs are in `logs_to`."""
    parts = parts_of(settings)
    await _emptied(parts)
    try:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(leashed(parts))
            stack.push(_LogsKept(parts, logs_to))
            yield await _put_together(stack, parts, settings, plan)
    finally:
        shutil.rmtree(parts, ignore_errors=True)


async def _put_together(
    stack: contextlib.AsyncExitStack, parts: Path, settings: Settings, plan: Plan
) -> Installation:
    node, bridge = node_binary(settings.node_binary), bridge_directory(settings.bridge_dir)
    # Shared memory in files: what a killed server leaves goes with its directory.
    server = EmbeddedServer(parts, listen_port=0, tuning={"dynamic_shared_memory_type": "mmap"})
    stack.push_async_callback(server.stop)
    await server.start()
    outages = Outages(server, parts / "pg_service.conf")
    stack.push_async_callback(outages.end)
    outages.name_server()
    simulator = Simulator(parts / "wa", node, bridge)
    stack.push_async_callback(simulator.stop)
    await simulator.start()
    receiver = await stack.enter_async_context(Receiver())
    own = Installation(parts, node, bridge, server, simulator, receiver, outages)
    given = {**plan.settings(), **receiver.settings(), **_settings(own, settings)}
    confined = {**simulator.host_environment(), "STANDFAST_WA_CONFINED": "1"}
    for name in ("first", "second"):
        # A short directory: a socket's path has room for 100 bytes.
        service = ServiceProcess(
            parts / name[0], {**given, "STANDFAST_NODE_NAME": name}, confined, parts / _LOGS / name
        )
        own.services[name] = service
        stack.push_async_callback(service.stop)
    return own


def _settings(own: Installation, settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": own.outages.connection(),
        "PGSERVICEFILE": str(own.root / "pg_service.conf"),
        "NODE_BINARY": str(own.node),
        "STANDFAST_BRIDGE_DIR": str(own.bridge),
        "STANDFAST_EMERGENCY_DIR": str(own.folders),
        "STANDFAST_HTTP": "off",
        "STANDFAST_SCHEDULE": "off",
        "STANDFAST_CHANGE_LOG": "off",
        "STANDFAST_NEW_CHATS_PER_MINUTE": "0",
        "STANDFAST_LOG": "info",
    }


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """No other drill runs meanwhile. `StateDirectoryError` where one does."""
    held = StateDirectory(settings.state_dir / _NAME)
    holder = held.holder()
    if holder is not None or not held.try_acquire("drill"):
        pid = f" (pid {holder.pid})" if holder else ""
        raise StateDirectoryError(
            f"another drill runs here{pid}",
            next_step="Wait for its end; 'standfast drill list' shows its result.",
        )
    try:
        yield
    finally:
        held.release()


async def _emptied(parts: Path) -> None:
    """A drill that was killed leaves files; its processes are the leash's."""
    if await asyncio.to_thread(parts.exists):
        async with leashed(parts):
            pass
        shutil.rmtree(parts, ignore_errors=True)
    (parts / _LOGS).mkdir(mode=0o700, parents=True)


class _LogsKept:
    """Copies the logs where something went wrong."""

    def __init__(self, parts: Path, to: Path) -> None:
        self._from, self._to = parts, to

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            keep_logs(self._from, self._to)


def parts_of(settings: Settings) -> Path:
    """Where the parts of a drill lie while it runs."""
    return settings.state_dir / _NAME / _PARTS


def keep_logs(parts: Path, to: Path) -> None:
    """The services' and PostgreSQL's logs as files in `to`."""
    with contextlib.suppress(OSError):
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (*(parts / _LOGS).iterdir(), parts / "postgres.log"):
            if path.is_file():
                shutil.copy(path, to / f"{path.stem}.log")
