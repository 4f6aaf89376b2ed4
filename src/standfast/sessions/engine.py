"""The engine: supervises the Node host that holds the Baileys sockets.

Owns the host process from start to end. Invariant: at most one host runs; when it dies, whoever listens is
told before another is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from standfast.errors import NodeError, ServiceUnavailable
from standfast.sessions.wire import Connection

log = structlog.get_logger(__name__)
_LOG_LINE_BYTES = 1024 * 1024
# The host needs no database password and no token of ours; what it does need is named here.
_INHERITED = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|NODE_\w+|SSL_CERT_\w+|(?i:https?|no|all)(?i:_proxy)"
)


@dataclass(frozen=True, slots=True)
class HostCommand:
    """How to start a Node host: program and arguments, and what it needs in its environment."""

    argv: tuple[str, ...]
    socket: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Deadlines and delays, in seconds."""

    hello_timeout_s: float = 20.0
    stop_timeout_s: float = 3.0
    restart_base_s: float = 0.2
    restart_cap_s: float = 30.0
    steady_s: float = 30.0


class HostListener(Protocol):
    """Who is told about the host's life, hears its notifications and answers its requests."""

    def ready(self) -> None:
        """A host has attached and takes requests."""
        ...

    def lost(self, reason: str) -> None:
        """The host is gone with all its sockets."""
        ...

    def told(self, method: str, params: msgspec.Raw) -> None:
        """A notification of the host."""
        ...

    async def asked(self, method: str, params: msgspec.Raw) -> Any:
        """Answer a request of the host."""
        ...


class Engine:
    """Starts, restarts and stops the Node host; `request` asks it."""

    def __init__(
        self, command: HostCommand, listener: HostListener, options: EngineOptions | None = None
    ) -> None:
        self._command = command
        self._listener = listener
        self._options = options or EngineOptions()
        self._token = ""
        self._connection: Connection | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._was_ready = False
        self.restarts = 0
        self.last_exit: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running host."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    async def start(self) -> None:
        """Start the host and wait until it is attached. Raises `NodeError` where it does not come up."""
        self._supervisor = asyncio.create_task(self._supervise(), name="engine")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                {self._supervisor, ready},
                timeout=self._options.hello_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ready.cancel()
        if not self._ready.is_set():
            await self.stop()
            raise NodeError(f"the Node host did not come up: {self.last_exit or 'no hello in time'}")

    async def came_up(self) -> bool:
        """Whether a start that is under way has succeeded, once that is known."""
        either = [asyncio.create_task(event.wait()) for event in (self._ready, self._stopping)]
        try:
            await asyncio.wait(
                either, timeout=self._options.hello_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in either:
                task.cancel()
        return self._ready.is_set()

    def kill(self) -> None:
        """End a host that answers nothing; another is started in its place."""
        if self._process is not None:
            _kill(self._process)

    async def stop(self) -> None:
        """Ask the host to end its sockets and leave; kill it after `stop_timeout_s`."""
        self._stopping.set()
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(ServiceUnavailable):
                await self.request("host.shutdown", {}, timeout_s=self._options.stop_timeout_s)
        if self._process is not None:
            await _end(self._process, self._options.stop_timeout_s / 3)
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        """The host's raw answer. Raises its error, or `ServiceUnavailable` while no host is attached."""
        if self._connection is None:
            raise ServiceUnavailable(
                "the Node host is not running just now", next_step="It restarts by itself; try again shortly."
            )
        return await self._connection.request(method, params, timeout_s=timeout_s)

    def host_attached(self, token: str, connection: Connection) -> bool:
        """Take the connection of the host that was started here (see `gateway.HostPort`)."""
        if not self._token or not secrets.compare_digest(token.encode(), self._token.encode()):
            return False
        if self._connection is not None:
            return False
        self._connection = connection
        # After hello's answer has been written: the host takes requests only then.
        asyncio.get_running_loop().call_soon(self._announce, connection)
        return True

    def _announce(self, connection: Connection) -> None:
        if self._connection is connection and connection.is_open:
            self._was_ready = True
            self._ready.set()
            self._listener.ready()

    def host_notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        if connection is self._connection:
            self._listener.told(method, params)

    async def host_asked(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        if connection is not self._connection:
            raise ServiceUnavailable("this host has been given up")
        return await self._listener.asked(method, params)

    def host_detached(self, connection: Connection) -> None:
        if connection is self._connection:
            self._detach("its connection ended")
            # A host without its connection is of no use; it ends itself, and this makes sure.
            if self._process is not None and self._process.returncode is None:
                asyncio.get_running_loop().call_later(2.0, _kill, self._process)

    def _detach(self, reason: str) -> None:
        was_ready = self._ready.is_set()
        self._connection = None
        self._token = ""
        self._ready.clear()
        if was_ready and not self._stopping.is_set():
            self._listener.lost(reason)

    async def _supervise(self) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while not self._stopping.is_set():
            started = loop.time()
            self.last_exit = await self._run_once()
            self._detach(self.last_exit)
            if self._stopping.is_set():
                return
            failures = 0 if loop.time() - started > self._options.steady_s else failures + 1
            delay = min(self._options.restart_cap_s, self._options.restart_base_s * 2 ** min(failures, 10))
            log.error("the Node host ended", reason=self.last_exit, restart_in_s=round(delay, 1))
            if not self._was_ready:
                return  # start() says why; a host that never came up would only fail again
            self.restarts += 1
            await asyncio.sleep(delay)

    async def _run_once(self) -> str:
        self._token = secrets.token_urlsafe(24)
        environment = {
            **{name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)},
            **self._command.environment,
            "STANDFAST_SOCKET": str(self._command.socket),
            "STANDFAST_HOST_TOKEN": self._token,
        }
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command.argv,
                # The pipe's end tells the host that this process is gone, also after SIGKILL.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                limit=_LOG_LINE_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot start {self._command.argv[0]}: {error.strerror}"
        process, last_line = self._process, ""
        try:
            assert process.stderr is not None
            while line := await _line(process.stderr):
                last_line = line.decode("utf-8", "replace").strip()[:300]
                log.info("host", line=last_line)
            await process.wait()
        finally:
            if process.returncode is None:
                _kill(process)
        return f"exit code {process.returncode}" + (f": {last_line}" if last_line else "")


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:
        return b"(a line too long to keep)"


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def _end(process: asyncio.subprocess.Process, timeout_s: float) -> None:
    ends: tuple[Callable[[], None] | None, ...] = (None, process.terminate, process.kill)
    for end in ends:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if end is not None:
                end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), timeout_s)
