"""The WhatsApp simulator as a child process, and its admin API.

Invariant: the simulator lives no longer than this process (its standard input is a pipe from here).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import httpx
import msgspec
import structlog

from standfast.errors import BY_CODE, NodeError, PortInUse, StandfastError
from standfast.service.certificate import CERTIFICATE, make_certificate

log = structlog.get_logger(__name__)
READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 2.0
ADMIN_TIMEOUT_S = 10.0


class Ready(msgspec.Struct):
    """The line that the simulator prints once it serves."""

    url: str
    admin: str
    root_key: str
    pid: int


def admin_client(ready: Ready) -> httpx.AsyncClient:
    """For the admin API. No connection is used twice: the simulator may just be closing an idle one."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=ready.admin, timeout=ADMIN_TIMEOUT_S, trust_env=False, limits=limits)


class Simulator:
    """Runs `bridge/simulator/main.mjs`. `start()` returns when it serves; `stop()` ends it within 3 s."""

    def __init__(self, state: Path, node: Path, bridge: Path, port: int = 0, admin_port: int = 0) -> None:
        self._state = state
        self._main = (str(node), str(bridge / "simulator" / "main.mjs"))
        self._ports = (port, admin_port)
        self._process: asyncio.subprocess.Process | None = None
        self._logs: asyncio.Task[None] | None = None
        self._http: httpx.AsyncClient | None = None
        self._ready: Ready | None = None

    @property
    def ready(self) -> Ready:
        """Addresses and root key; only after `start()`."""
        assert self._ready is not None
        return self._ready

    def host_environment(self) -> dict[str, str]:
        """What makes a Node host connect here instead of to WhatsApp."""
        return {
            "STANDFAST_WA_URL": self.ready.url,
            "STANDFAST_WA_ROOT_KEY": self.ready.root_key,
            "NODE_EXTRA_CA_CERTS": str(self._state / CERTIFICATE),
        }

    async def start(self) -> Ready:
        """Start and wait for its ready line. Raises `PortInUse` or `NodeError`."""
        port, admin_port = self._ports
        certificate, key = make_certificate(self._state)
        self._process = await asyncio.create_subprocess_exec(
            *self._main,
            "--port",
            str(port),
            "--admin-port",
            str(admin_port),
            "--state",
            str(self._state),
            "--media-cert",
            str(certificate),
            "--media-key",
            str(key),
            "--exit-with-parent",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            # Its contacts are clients of its own server of files.
            env={**os.environ, "NODE_EXTRA_CA_CERTS": str(certificate)},
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await self._process.stdout.readline()
            self._ready = msgspec.json.decode(line, type=Ready)
        except (TimeoutError, msgspec.MsgspecError):
            raise await self._not_started() from None
        self._logs = asyncio.create_task(self._read_logs())
        self._http = admin_client(self._ready)
        return self._ready

    async def _not_started(self) -> StandfastError:
        process = self._process
        assert process is not None
        assert process.stderr is not None
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        said = (await process.stderr.read(2000)).decode("utf-8", "replace").strip()
        cause = PortInUse if process.returncode == PortInUse.exit_code else NodeError
        return cause(f"the simulator did not start: {said or 'it said nothing'}")

    async def _read_logs(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError):
            async for line in self._process.stderr:
                log.info("simulator", line=line.decode("utf-8", "replace").strip()[:300])

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One admin call; its JSON answer. Raises the error that the simulator named."""
        if self._http is None:
            raise NodeError("the simulator is not running")
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise NodeError(f"the simulator does not answer: {type(error).__name__}") from error
        answer = response.json() if response.content else None
        if response.is_error:
            told = (answer or {}).get("error", {})
            error_class = BY_CODE.get(str(told.get("code")), StandfastError)
            raise error_class(str(told.get("message", response.status_code)), next_step=told.get("next_step"))
        return answer

    async def ended(self) -> int:
        """Wait for its end, however it comes; its exit code. Without a deadline: it serves until it is told."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL."""
        if self._http is not None:
            await self._http.aclose()
        process = self._process
        if process is not None and process.returncode is None:
            for end in (process.terminate, process.kill):
                with contextlib.suppress(ProcessLookupError):
                    end()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
                    break
        if self._logs is not None:
            self._logs.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._logs
