"""`Sending`: a running service brings backups to the remotes: after each backup, and every five minutes.

Invariant: it asks nothing of PostgreSQL, and what fails comes again: each remote's own pace says when.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from standfast.errors import JobRunning, StandfastError
from standfast.jobs.context import JobContext
from standfast.jobs.remotes.report import RemotesReport
from standfast.jobs.remotes.sending import send_backups

log = structlog.get_logger(__name__)
INTERVAL_S = 300.0
DELAY_S = 30.0


class Sending:
    """`report`: what the last attempt has found, made at `at`; None before it."""

    def __init__(
        self, context: Callable[[], JobContext], *, interval_s: float = INTERVAL_S, delay_s: float = DELAY_S
    ) -> None:
        self.report: RemotesReport | None = None
        self.at: float | None = None
        self.on_ended: Callable[[], None] = lambda: None
        self._context = context
        self._interval_s = interval_s
        self._delay_s = delay_s
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something new to send."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        limit_s = self._delay_s
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._wake.wait()
            self._wake.clear()
            limit_s = self._interval_s
            try:
                self.report, self.at = await send_backups(self._context()), time.time()
            except JobRunning:
                log.info("backups are being sent by another process")
            except StandfastError as error:
                log.warning("backups cannot be sent", error=error.code, reason=error.message)
            except Exception:
                log.exception("sending backups failed unexpectedly")
            self.on_ended()
