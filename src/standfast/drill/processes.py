"""The drill's own processes: the service, commands, a plain Baileys, and the leash that ends them all.

Invariant: what is started here works below the drill's directory, by which the leash finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from standfast.drill import leash
from standfast.drill.waiting import until
from standfast.errors import DrillFailed, ServiceUnavailable
from standfast.service.client import Client
from standfast.state_dir import StateDirectory

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
_TAIL = 400


class Ran(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed as JSON; None where it is none."""
        try:
            return json.loads(self.out)
        except ValueError:
            return None

    def complaint(self) -> str:
        """Why it failed, short."""
        told = (self.document or {}).get("error", {}) if isinstance(self.document, dict) else {}
        return str(told.get("message") or (self.err or self.out).strip()[-_TAIL:] or f"exit code {self.code}")


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """`settings` and what any program needs; nothing of the configured installation."""
    return {**{name: os.environ[name] for name in _INHERITED if name in os.environ}, **settings}


class ServiceProcess:
    """A service in `state`, started and killed as often as it takes. `client` is connected anew by itself."""

    def __init__(self, state: Path, settings: Mapping[str, str], host: Mapping[str, str], log: Path) -> None:
        self.state = StateDirectory(state)
        self.settings = {**settings, "STANDFAST_STATE_DIR": str(state)}
        self._host = host
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.client = Client(self.state.gateway_socket)

    def another_client(self) -> Client:
        """A connection of its own, for what must not wait behind other calls."""
        return Client(self.state.gateway_socket)

    async def start(self) -> None:
        """Return once its gateway answers."""
        self.state.prepare()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "standfast.drill.child",
                json.dumps(self._host),
                cwd=self.state.path,
                env=environment(self.settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await until(self._answers, "the service answered", START_TIMEOUT_S)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise DrillFailed(
                f"the service ended with code {self._process.returncode}; see its log {self._log}"
            )
        with contextlib.suppress(ServiceUnavailable):
            await self.client.sessions()
            return True
        return False

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end("kill")

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL where it does not end."""
        await self._end("terminate")

    async def _end(self, how: str) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            getattr(process, how)()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def command(self, *arguments: str, timeout_s: float = 120.0) -> Ran:
        """`standfast ARGUMENTS`, as an operator of this service runs it."""
        return await run(
            [sys.executable, "-m", "standfast", *arguments],
            environment(self.settings),
            self.state.path,
            timeout_s,
        )


async def run(argv: Sequence[str], env: Mapping[str, str], cwd: Path, timeout_s: float) -> Ran:
    """A program to its end; killed at its deadline."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise DrillFailed(f"{' '.join(argv[1:4])} did not end within {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


@contextlib.asynccontextmanager
async def leashed(directory: Path) -> AsyncIterator[None]:
    """Whatever works below `directory` ends with this context, and with this process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        leash.__file__,
        str(directory),
        cwd="/",
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), STOP_TIMEOUT_S)
