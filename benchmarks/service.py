"""A gateway in a process of its own, as in production, on a database that the benchmark chose."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from standfast.postgres.options import DatabaseOptions

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@contextlib.asynccontextmanager
async def gateway_on(state_dir: Path, options: DatabaseOptions) -> AsyncIterator[Path]:
    """The socket of a `standfast up --gateway-only` that uses `options`."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PG", "POSTGRES_"))},
        "STANDFAST_STATE_DIR": str(state_dir),
        "DATABASE_URL": options.to_conninfo(),
        "STANDFAST_LOG": "error",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "standfast",
        "up",
        "--gateway-only",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    socket = state_dir / "gateway.sock"
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not socket.exists():
                if process.returncode is not None:
                    raise SystemExit(f"the gateway did not start: exit code {process.returncode}")
                await asyncio.sleep(0.05)
        yield socket
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
