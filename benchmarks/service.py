"""Gateways in processes of their own, as in production, on a database that the benchmark chose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import Program, Remarks
from standfast.postgres.options import DatabaseOptions

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A service: its socket, and the process that serves it."""

    socket: Path
    pid: int


@contextlib.asynccontextmanager
async def service_on(
    state_dir: Path,
    options: DatabaseOptions,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Running]:
    """`standfast up` with its state in `state_dir`, once its gateway listens."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PG", "POSTGRES_"))},
        "STANDFAST_STATE_DIR": str(state_dir),
        "DATABASE_URL": options.to_conninfo(),
        "STANDFAST_LOG": "error",
        "STANDFAST_HTTP_PORT": "0",
        **(settings or {}),
    }
    remarks = Remarks()
    process = await asyncio.create_subprocess_exec(
        *_profiled(),
        "-m",
        "standfast",
        "up",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=remarks.file,
    )
    socket = state_dir / "gateway.sock"
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not socket.exists():
                if process.returncode is not None:
                    raise SystemExit(f"the service ended with {process.returncode}\n{remarks.last()}")
                await asyncio.sleep(0.01)
        yield Running(socket, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
        remarks.close()


def gateway_on(state_dir: Path, options: DatabaseOptions) -> contextlib.AbstractAsyncContextManager[Running]:
    """A `standfast up --gateway-only`: what a bot of somebody's own connects to."""
    return service_on(state_dir, options, "--gateway-only")


@contextlib.asynccontextmanager
async def direct_gateway_on(state_dir: Path, options: DatabaseOptions) -> AsyncIterator[Running]:
    """The same gateway with nothing between it and PostgreSQL: each get and set is a query."""
    socket = state_dir / "gateway.sock"
    program = Program.python("direct", {"socket": str(socket), "conninfo": options.to_conninfo()})
    async with program:
        await program.told(START_TIMEOUT_S)
        yield Running(socket, program.pid)


def _profiled() -> Sequence[str]:
    """The interpreter; STANDFAST_BENCH_PROFILE names a file for cProfile's figures of the service."""
    profile = os.environ.get("STANDFAST_BENCH_PROFILE")
    return [sys.executable, *(["-m", "cProfile", "-o", profile] if profile else [])]
