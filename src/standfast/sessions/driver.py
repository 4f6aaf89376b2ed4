"""Makes and ends the sockets of sessions: launching, pacing, reconnecting.

Invariant: one company never has two sockets being made at once (its session's lock is held meanwhile), and
a socket is made only while a host is there to hold it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec
import structlog

from standfast.errors import ServiceUnavailable, StandfastError
from standfast.sessions.backoff import Backoff
from standfast.sessions.events import Event, EventBus
from standfast.sessions.session import Session, State

log = structlog.get_logger(__name__)
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
STARTS_AT_ONCE = 8


class Host(Protocol):
    """The part of the engine that sessions use."""

    @property
    def is_ready(self) -> bool: ...

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw: ...


class SessionDriver:
    """What the session pool does to one session at a time."""

    def __init__(self, bus: EventBus, backoff: Backoff | None = None) -> None:
        self.backoff = backoff or Backoff()
        self.host: Host | None = None
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()
        self._pacing = asyncio.Semaphore(STARTS_AT_ONCE)
        self._stopping = False

    async def close(self) -> None:
        """Start nothing any more and end what is under way."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def launch(self, session: Session) -> None:
        """Ask the host for a socket; the session's lock is held."""
        if self._stopping:
            return
        if self.host is None or not self.host.is_ready:
            session.enter(State.CLOSED, "waits for the Node host, which is starting")
            self.tell(session)
            return
        session.launched()
        self.tell(session)
        pair = session.pairing.as_wire() if session.pairing else None
        try:
            await self.request(session, "session.start", {"pair": pair}, START_TIMEOUT_S)
        except StandfastError as error:
            self._not_started(session, error)

    def launch_later(self, session: Session) -> None:
        """Launch it in its turn: many at once would be a storm of QRs and a burst of memory."""
        self.spawn(self._launch_if(session, {State.CLOSED}))

    def relaunch(self, session: Session) -> None:
        """WhatsApp asked for a restart: launch it as soon as its turn comes."""
        self.spawn(self._launch_if(session, {State.CLOSED, State.CONNECTING}))

    async def _launch_if(self, session: Session, states: set[State]) -> None:
        async with self._pacing, session.lock:
            if session.state in states:
                await self.launch(session)

    def _not_started(self, session: Session, error: StandfastError) -> None:
        if not error.retryable:
            self.refuse(session, error)
            return
        session.failures += 1
        session.obstacle = error
        session.enter(State.CLOSED, error.message, error.next_step)
        host_is_there = self.host is not None and self.host.is_ready
        # A host that has gone is restarted, and that starts the session again.
        if host_is_there or not isinstance(error, ServiceUnavailable):
            self.reconnect_later(session)
        self.tell(session)

    def refuse(self, session: Session, error: StandfastError) -> None:
        """The session cannot be started, and trying again would not help."""
        session.pairing = None
        session.enter(State.CLOSED, error.message, error.next_step)
        log.error("session not started", company=session.company, code=error.code, reason=error.message)
        self.tell(session)

    def retry(self, session: Session) -> None:
        """What kept it from being opened is over: launch it in its turn, if it is still to be connected."""
        session.cancel_timer()
        session.failures = 0
        if session.wanted or session.pairing:
            self.launch_later(session)

    def reconnect_later(self, session: Session) -> None:
        """Launch it after its backoff, if it is still to be connected."""
        if self._stopping or not (session.wanted or session.pairing):
            return
        session.reconnects += 1
        delay_s = self.backoff.delay_s(session.failures)
        session.timer = asyncio.get_running_loop().call_later(delay_s, self.launch_later, session)

    async def end(self, session: Session, reason: str, next_step: str | None = None) -> None:
        """End the session's socket, if there is one; the session's lock is held."""
        session.cancel_timer()
        session.pairing = None
        was_active = session.is_active
        session.enter(State.CLOSED, reason, next_step)
        if not was_active:
            return
        try:
            await self.request(session, "session.stop", {}, STOP_TIMEOUT_S)
        except StandfastError as error:
            log.warning("session did not end cleanly", company=session.company, code=error.code)
        self.tell(session)

    async def request(
        self, session: Session, method: str, params: dict[str, Any], timeout_s: float
    ) -> msgspec.Raw:
        """Ask the host about the session's current generation."""
        if self.host is None:
            raise ServiceUnavailable(
                "this service runs no Node host", next_step="Start it with 'standfast up'."
            )
        named = {"company": session.company, "generation": session.generation, **params}
        return await self.host.request(method, named, timeout_s=timeout_s)

    def tell(self, session: Session) -> None:
        """Publish the session's state."""
        self._bus.publish(Event(session.company, "state", session.as_wire()))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background until `close`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a session's task failed", exc_info=task.exception())
