"""`Supervisor`: keeps the embedded server running for as long as its owner runs.

Invariant: a server that ended is started again, however often, with growing pauses; that it is away and that it is
back are each told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

import structlog

from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.postgres.embedded import EmbeddedServer

log = structlog.get_logger(__name__)
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
_LOOK_S = 0.2
_CANCEL_INTERVAL_S = 0.2


class Supervisor:
    """`report` is told why the server is away, and None once it runs again; not of a first start that succeeds."""

    def __init__(self, server: EmbeddedServer, report: Callable[[StandfastError | None], None]) -> None:
        self.server = server
        self.restarts = 0
        self._report = report
        self._told: str | None = None
        self._first: asyncio.Future[StandfastError | None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, patience_s: float | None = None) -> StandfastError | None:
        """Begin. Why the first start failed (it is tried again all the same), or None where the server runs, or
        still starts after `patience_s` seconds."""
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(), name="embedded-postgres")
        done, _ = await asyncio.wait({self._first}, timeout=patience_s)
        return self._first.result() if done else None

    async def stop(self) -> None:
        """End the server and start it no more."""
        task = self._task
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_INTERVAL_S)
        await self.server.stop()

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            failure = await self._started()
            began = time.monotonic()
            if failure is None:
                await self._ended()
                failure = self._end()
                with contextlib.suppress(StandfastError, OSError):
                    await self.server.stop()
            if time.monotonic() - began >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            self._tell(failure)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self.restarts += 1

    async def _started(self) -> StandfastError | None:
        failure: StandfastError | None = None
        try:
            await self.server.start()
        except StandfastError as error:
            failure = error
        except Exception as error:
            log.exception("the embedded PostgreSQL could not be started")
            failure = DatabaseUnavailable(
                f"the embedded PostgreSQL did not start: {type(error).__name__}",
                next_step=f"See {self.server.log_file}; free disk space, or mend what the log names.",
                cause="embedded_start",
            )
        if failure is None:
            self._tell(None)
        if self._first is not None and not self._first.done():
            self._first.set_result(failure)
        return failure

    async def _ended(self) -> None:
        while self.server.running:  # noqa: ASYNC110 - a process, not one of asyncio's: nobody sets an event
            await asyncio.sleep(_LOOK_S)

    def _end(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"the embedded PostgreSQL ended {_how(self.server.exit_code)}",
            next_step=f"It is started again by itself; {self.server.log_file} says why it ended.",
            cause="embedded_ended",
        )

    def _tell(self, failure: StandfastError | None) -> None:
        """Each change once: a server that fails to start again and again is one piece of news."""
        message = failure.message if failure else None
        if message != self._told:
            self._told = message
            self._report(failure)


def _how(code: int | None) -> str:
    if code is None:
        return "unexpectedly"
    if code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with code {code}"
