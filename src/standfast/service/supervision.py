"""`Supervision`: what the service manager hears of a service from its start to its end, and when its watchdog is fed.

Invariant: the watchdog is fed only where this process was seen to do its own work: its loop turns, its gateway answers
a stranger, and its watch over the Node hosts looks. What has a supervisor of its own, or what no restart mends, does
not count: PostgreSQL away, a disk that is full, a Node host that fails, WhatsApp.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from standfast.errors import StandfastError
from standfast.service.link import Link
from standfast.service.notify import Notifier
from standfast.sessions.session import State

if TYPE_CHECKING:
    from standfast.service.service import Service

log = structlog.get_logger(__name__)
EXTENSION = "EXTEND_TIMEOUT_USEC=30000000"


@dataclass(frozen=True, slots=True)
class SupervisionOptions:
    """`extend_*_s`: for how long a start or a stop that goes on asks for more time. `host_watch_silent_s`: after which
    the watch over the hosts counts as ended; one look takes 5 s where a host is silent."""

    interval_s: float = 1.0
    extend_start_s: float = 600.0
    extend_stop_s: float = 150.0
    host_watch_silent_s: float = 60.0
    proof_timeout_s: float = 5.0


class Supervision:
    """`running()` round everything, `serving(service)` inside it while the service stands."""

    def __init__(self, notifier: Notifier, options: SupervisionOptions | None = None) -> None:
        self._notifier = notifier
        self._options = options or SupervisionOptions()
        self._service: Service | None = None
        self._phase, self._phase_began = "starting", time.monotonic()
        self._told: tuple[str, ...] = ()
        self._fed_at = time.monotonic()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tell until the end of it."""
        if not self._notifier.is_asked:
            yield
            return
        # A watchdog kills by SIGABRT: the log then has where each thread was.
        faulthandler.enable()
        telling = asyncio.create_task(self._tell_on())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait({telling})

    @contextlib.contextmanager
    def serving(self, service: Service) -> Iterator[None]:
        """The service has started; at the end of this its stop begins."""
        self._service, self._phase = service, "serving"
        self._fed_at = time.monotonic()
        self._look()
        try:
            yield
        finally:
            self._phase, self._phase_began = "stopping", time.monotonic()
            self._notifier.tell("STOPPING=1", "STATUS=stopping", EXTENSION)

    async def _tell_on(self) -> None:
        while True:
            try:
                self._look()
                await self._feed()
            except Exception:
                log.exception("telling the service manager failed")
            await asyncio.sleep(self._options.interval_s)

    def _look(self) -> None:
        """Tell what has changed; what was not taken is told again."""
        if self._phase == "serving" and self._service is not None:
            lines: tuple[str, ...] = ("READY=1", f"STATUS={status_line(self._service)}")
            if lines != self._told and self._notifier.tell(*lines):
                self._told = lines
            return
        options = self._options
        limit_s = options.extend_start_s if self._phase == "starting" else options.extend_stop_s
        if time.monotonic() - self._phase_began < limit_s:
            self._notifier.tell(f"STATUS={self._phase}", EXTENSION)

    async def _feed(self) -> None:
        watchdog_s, service = self._notifier.watchdog_s, self._service
        if watchdog_s is None or service is None or self._phase != "serving":
            return
        if time.monotonic() - self._fed_at < watchdog_s / 2 - self._options.interval_s:
            return
        why = await self._fault(service, min(self._options.proof_timeout_s, watchdog_s / 4))
        if why is not None:
            log.error("the watchdog is not fed", reason=why)
        elif self._notifier.tell("WATCHDOG=1"):
            self._fed_at = time.monotonic()

    async def _fault(self, service: Service, timeout_s: float) -> str | None:
        """What only a restart would mend; None where nothing is known."""
        if not service.options.gateway_only:
            silent_s = time.monotonic() - service.watch.looked_at
            if silent_s > self._options.host_watch_silent_s:
                return f"nobody has looked at the Node hosts for {silent_s:.0f} s"
        link = Link(service.gateway.path)
        try:
            async with asyncio.timeout(timeout_s):
                await link.open()
        except TimeoutError:
            return f"the gateway did not answer within {timeout_s:g} s"
        except StandfastError as error:
            return error.message
        finally:
            link.close()
        return None


def status_line(service: Service) -> str:
    """One line for `systemctl status`."""
    outage = service.vault.outage
    database = f"PostgreSQL {outage.state.value}" if outage.detached is None else "on files"
    if service.options.gateway_only:
        held = sum(holding.is_open for holding in service.vault.holdings())
        return f"{held} companies served; {database}"
    wanted = [session for session in service.pool.sessions() if session.wanted]
    is_open = sum(session.state is State.OPEN for session in wanted)
    return f"{is_open} of {len(wanted)} sessions open; {database}"
