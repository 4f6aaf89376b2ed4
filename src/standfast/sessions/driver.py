"""Makes and ends the sockets of sessions: launching, pacing, reconnecting.

Invariant: one company never has two sockets being made at once (its session's lock is held meanwhile), and
a socket is made only while a host is there to hold it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from standfast.alert import Alert, AlertSink
from standfast.errors import CompanyInUse, ServiceUnavailable, StandfastError
from standfast.sessions import alarms
from standfast.sessions.backoff import Backoff
from standfast.sessions.breaker import BreakerState, pause_s
from standfast.sessions.events import Event, EventBus
from standfast.sessions.host import Host, HostChoice
from standfast.sessions.session import Session, State

log = structlog.get_logger(__name__)
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
# A host that ends a socket in order needs this long at most (bridge/lib/host-session.mjs).
MOVE_TIMEOUT_S = 12.0
NOTES_TIMEOUT_S = 3.0
STARTS_AT_ONCE = 8
# For how long a start keeps its turn where WhatsApp does not answer.
TURN_S = 5.0


class SessionDriver:
    """What the session pool does to one session at a time."""

    def __init__(
        self, bus: EventBus, backoff: Backoff | None = None, alerts: AlertSink | None = None
    ) -> None:
        self.backoff = backoff or Backoff()
        self.hosts: HostChoice | None = None
        # For how long a session's next socket must not be made.
        self.hold_s: Callable[[Session], float] = lambda _session: 0.0
        self._alerts = alerts
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()
        self._notes: set[asyncio.Task[None]] = set()
        self._pacing = asyncio.Semaphore(STARTS_AT_ONCE)
        self._stopping = False

    async def halt(self) -> None:
        """Start nothing any more, and end what is under way; what is being written down goes on."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Halt, and wait (at most three seconds) until everything was written down."""
        await self.halt()
        if self._notes:
            await asyncio.wait(set(self._notes), timeout=NOTES_TIMEOUT_S)
        for task in tuple(self._notes):
            task.cancel()
        await asyncio.gather(*self._notes, return_exceptions=True)

    async def launch(self, session: Session) -> None:
        """Ask the host for a socket; the session's lock is held."""
        if self._stopping:
            return
        host = self.hosts.place(session.company) if self.hosts else None
        if host is None:
            session.cancel_timer()
            session.awaits_host = True
            session.enter(State.CLOSED, "waits for its Node host, which is starting")
            self.tell(session)
            return
        session.launched()
        self.tell(session)
        pair = session.pairing.as_wire() if session.pairing else None
        try:
            await self.request(session, "session.start", {"pair": pair}, START_TIMEOUT_S)
        except StandfastError as error:
            self._not_started(session, host, error)

    def launch_later(self, session: Session) -> None:
        """Launch it in its turn: many at once would be a storm of QRs and a burst of memory."""
        self.spawn(self._launch_if(session, {State.CLOSED}))

    def relaunch(self, session: Session) -> None:
        """WhatsApp asked for a restart: launch it as soon as its turn comes."""
        self.spawn(self._launch_if(session, {State.CLOSED, State.CONNECTING}))

    async def _launch_if(self, session: Session, states: set[State]) -> None:
        async with self._pacing:
            async with session.lock:
                if session.state not in states:
                    return
                if held_s := self.hold_s(session):
                    self._launch_in(session, held_s)
                    return
                await self.launch(session)
            # The host answers as soon as it has begun; the turn lasts until the socket is open, shows a QR, or failed.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(session.settled.wait(), TURN_S)

    def _not_started(self, session: Session, host: Host, error: StandfastError) -> None:
        if not error.retryable:
            self.refuse(session, error)
            return
        session.obstacle = error
        session.failed(error.message)
        # A host that has gone is restarted, and that starts the session again.
        if host.is_ready or not isinstance(error, ServiceUnavailable):
            self.reconnect_later(session)
        else:
            session.awaits_host = True
        self.tell(session)

    def refuse(self, session: Session, error: StandfastError) -> None:
        """The session cannot be started, and trying again would not help."""
        session.pairing, session.awaits_host = None, False
        session.enter(State.CLOSED, error.message, error.next_step)
        log.error("session not started", company=session.company, error=error.code, reason=error.message)
        if isinstance(error, CompanyInUse):
            # What was accepted here would wait for as long as the other node lives.
            session.elsewhere = error.facts.get("holder")
            self.alert(alarms.elsewhere(session.company))
        self.tell(session)

    def retry(self, session: Session) -> None:
        """What kept it from being opened is over: launch it in its turn, if it is still to be connected."""
        session.cancel_timer()
        session.hindrances = 0
        if session.wanted or session.pairing:
            self.launch_later(session)

    def reconnect_later(self, session: Session) -> None:
        """Launch it after its backoff, or its breaker's pause, if it is still to be connected."""
        if self._stopping or not (session.wanted or session.pairing):
            return
        session.reconnects += 1
        self._launch_in(session, self._delay_s(session))

    def _launch_in(self, session: Session, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        session.cancel_timer()
        session.timer = loop.call_later(delay_s, self._due, session)
        session.retry_at = loop.time() + delay_s

    def _delay_s(self, session: Session) -> float:
        backoff, breaker = self.backoff, session.breaker
        if session.is_hindered:
            return backoff.delay_s(session.hindrances)
        was = breaker.state
        if not breaker.opens(backoff.breaker):
            return backoff.delay_s(session.failures)
        delay_s = pause_s(backoff.breaker)
        if was is BreakerState.CLOSED:
            self.alert(alarms.breaker_open(session, delay_s))
        minutes = round(backoff.breaker.open_s / 60, 1)
        session.reason = (
            f"{session.failures} failures in a row, tried every {minutes:g} min: {session.reason}"
        )
        return delay_s

    def _due(self, session: Session) -> None:
        session.timer, session.retry_at = None, None
        self.launch_later(session)

    def opened(self, session: Session) -> None:
        """It counts as connected once it has been open for long enough."""
        session.cancel_steady()
        loop = asyncio.get_running_loop()
        session.steady = loop.call_later(self.backoff.steady_s, self._lasted, session)

    def _lasted(self, session: Session) -> None:
        session.steady = None
        if session.succeeded():
            self.alert(alarms.breaker_closed(session))
            self.tell(session)
        else:
            self.alert(alarms.stands(session))

    async def end(self, session: Session, reason: str, next_step: str | None = None) -> None:
        """End the session's socket, if there is one; the session's lock is held."""
        session.cancel_timer()
        session.pairing, session.awaits_host = None, False
        was_active = session.is_active
        session.enter(State.CLOSED, reason, next_step)
        if not was_active:
            return
        try:
            await self.request(session, "session.stop", {}, STOP_TIMEOUT_S)
        except StandfastError as error:
            log.warning("session did not end cleanly", company=session.company, error=error.code)
        self.tell(session)

    async def renew(self, session: Session, reason: str, between: Callable[[], None] | None = None) -> bool:
        """End the session's socket, call `between`, and make another, all under its lock; what is sent meanwhile waits
        in the outbox. False where there was no socket to end, or the host did not end it."""
        async with session.lock:
            if self._stopping or not session.is_active:
                return False
            session.cancel_timer()
            session.enter(State.CLOSED, reason)
            self.tell(session)
            try:
                await self.request(session, "session.stop", {}, MOVE_TIMEOUT_S)
            except StandfastError as error:
                log.warning("session did not end cleanly", company=session.company, error=error.code)
                if between is not None:
                    # Its host may still hold it: it waits until that one is gone.
                    session.awaits_host = True
                    return False
            if between is not None:
                between()
            await self.launch(session)
            return True

    async def request(
        self, session: Session, method: str, params: dict[str, Any], timeout_s: float
    ) -> msgspec.Raw:
        """Ask the host about the session's current generation."""
        if self.hosts is None:
            raise ServiceUnavailable(
                "this service runs no Node host", next_step="Start it with 'standfast up'."
            )
        host = self.hosts.of(session.company)
        if host is None:
            raise ServiceUnavailable(f"no Node host has the session of company {session.company!r}")
        named = {"company": session.company, "generation": session.generation, **params}
        return await host.request(method, named, timeout_s=timeout_s)

    def tell(self, session: Session) -> None:
        """Publish the session's state."""
        self._bus.publish(Event(session.company, "state", session.as_wire()))

    def alert(self, alert: Alert) -> None:
        """Tell whoever takes alerts, if anybody does."""
        if self._alerts is not None:
            self._alerts.take(alert)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background until `halt`."""
        self._begin(work, self._tasks)

    def note(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which writes something down, in the background; `close` waits for it."""
        self._begin(work, self._notes)

    def _begin(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_finished)


def _finished(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("a session's task failed", exc_info=task.exception())
