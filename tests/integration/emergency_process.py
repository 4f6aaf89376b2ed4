"""Emergency commands and the service that they ask, each in a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from standfast.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
_POLL_S = 0.0005  # files tell nobody, and a step takes milliseconds
_TIMEOUT_S = 30.0
_SERVICE = """
import asyncio
from standfast.cli.context import current_settings
from standfast.service.service import Service, ServiceOptions

async def run():
    async with Service(current_settings(), ServiceOptions(gateway_only=True)):
        print("running", flush=True)
        await asyncio.Event().wait()

asyncio.run(run())
"""


async def ended(settings: Settings, moment: Callable[[], bool], *words: str) -> tuple[int, bytes]:
    """The exit code of `standfast emergency …`, and what it said; it is killed at the moment."""
    process = await _started(settings, "-m", "standfast", "emergency", *words, "--yes", "--json")
    saying = asyncio.create_task(process.communicate())
    async with asyncio.timeout(_TIMEOUT_S):
        while not saying.done():
            if moment():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                break
            await asyncio.sleep(_POLL_S)
        out, err = await saying
    assert process.returncode is not None
    return process.returncode, out + err


async def ended_alone(settings: Settings, moment: Callable[[], bool], *words: str) -> tuple[int, bytes]:
    """The same, with the service that the command asks killed at the moment: the command sees what comes of it."""
    async with _service(settings) as service:
        command = asyncio.create_task(ended(settings, lambda: False, *words))
        async with asyncio.timeout(_TIMEOUT_S):
            while not command.done() and not moment():
                await asyncio.sleep(_POLL_S)
        service.send_signal(signal.SIGKILL)
        await service.wait()
        return await command


@contextlib.asynccontextmanager
async def _service(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway-only service; nothing of it is left."""
    process = await _started(settings, "-c", _SERVICE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            while b"running" not in (line := await process.stdout.readline()):
                assert line, await _last_words(process)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _last_words(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    return await process.stderr.read()


async def _started(settings: Settings, *words: str) -> asyncio.subprocess.Process:
    assert settings.database_url is not None
    environment = {
        **os.environ,
        "STANDFAST_STATE_DIR": str(settings.state_dir),
        "STANDFAST_NODE_NAME": "one",
        "STANDFAST_HTTP": "off",
        "STANDFAST_SCHEDULE": "off",
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "PYTHONPATH": str(ROOT / "src"),
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
