"""The session pool: every company's session, driven by the host's events.

Invariant: one company never has two sockets being made at once, and a session that must not reconnect
(replaced, logged out, stopped) is started again only by an operator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec
import structlog

from standfast.authstate.company import Company, company_id
from standfast.errors import (
    CompanyUnknown,
    PairingFailed,
    SendFailed,
    ServiceUnavailable,
    SessionNotOpen,
    StandfastError,
    UsageError,
    from_wire,
)
from standfast.sessions.backoff import Backoff
from standfast.sessions.events import Event, EventBus
from standfast.sessions.session import Next, Pairing, Session, State

log = structlog.get_logger(__name__)
START_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 25.0
STOP_TIMEOUT_S = 5.0
STARTS_AT_ONCE = 8


class Host(Protocol):
    """The part of the engine that sessions use."""

    @property
    def is_ready(self) -> bool: ...

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw: ...


class Roster(Protocol):
    """Remembers which companies' sessions are wanted, over restarts."""

    async def wanted(self) -> list[Company]:
        """Companies whose sessions are to be started."""
        ...

    async def want(self, company: Company, wanted: bool) -> None:
        """Remember whether the company's session is wanted."""
        ...

    async def linked(self, company: Company) -> None:
        """The company was paired; its session is wanted from now on."""
        ...

    async def unlinked(self, company: Company) -> None:
        """WhatsApp said that the device was removed; the session is not wanted and the creds are dead."""
        ...

    async def prepare_pairing(self, company: Company) -> None:
        """Make room for a new identity: archives and removes auth state that is dead. Raises
        `PairingFailed` where the company is paired and alive."""
        ...


class SessionPool:
    """Start, stop, pair, send: the operations on sessions."""

    def __init__(self, roster: Roster, bus: EventBus, backoff: Backoff | None = None) -> None:
        self._roster = roster
        self._bus = bus
        self._backoff = backoff or Backoff()
        self._host: Host | None = None
        self._sessions: dict[Company, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pacing = asyncio.Semaphore(STARTS_AT_ONCE)
        self._stopping = False
        self._takers: dict[str, Callable[[Session, dict[str, Any]], None]] = {
            "qr": self._take_qr,
            "pairing_code": self._take_code,
            "pairing_refused": self._take_refusal,
            "paired": self._take_paired,
            "open": self._take_open,
            "message": self._take_message,
            "undecryptable": self._take_undecryptable,
            "error": self._take_error,
            "closed": self._take_closed,
        }

    def use_host(self, host: Host) -> None:
        """Name the engine (it needs the pool as its listener, so it comes second)."""
        self._host = host

    def sessions(self) -> list[Session]:
        """Every session known, by company."""
        return [self._sessions[company] for company in sorted(self._sessions)]

    def session(self, company: Company) -> Session | None:
        return self._sessions.get(company)

    async def start_wanted(self) -> int:
        """Start the session of every wanted company; how many. Raises what the roster raises."""
        companies = await self._roster.wanted()
        for company in companies:
            session = self._known(company)
            session.wanted = True
            self._spawn(self._launch_paced(session))
        return len(companies)

    async def start(self, company: str) -> Session:
        """Start a paired company's session; does nothing where it runs."""
        session = self._known(company_id(company))
        await self._want(session, True)
        async with session.lock:
            if not session.is_active:
                session.failures = 0
                await self._launch(session)
        return session

    async def stop(self, company: str) -> Session:
        """End the session and do not start it again by itself. The auth state stays."""
        session = self._existing(company)
        await self._want(session, False)
        async with session.lock:
            await self._end(session, "session.stop", "stopped by an operator")
        return session

    async def restart(self, company: str) -> Session:
        """End the session, if it runs, and start it anew."""
        session = self._known(company_id(company))
        await self._want(session, True)
        async with session.lock:
            await self._end(session, "session.stop", "restarted by an operator")
            session.failures = 0
            await self._launch(session)
        return session

    async def logout(self, company: str) -> Session:
        """Unlink the device at WhatsApp; the company must be paired anew afterwards."""
        session = self._existing(company)
        if session.state is not State.OPEN:
            raise self._not_open(session)
        await self._want(session, False)
        async with session.lock:
            await self._request(session, "session.logout", {}, STOP_TIMEOUT_S)
        return session

    async def pair(self, company: str, pairing: Pairing) -> Session:
        """Begin pairing; QR or code follow as events. `PairingFailed` where the company is paired."""
        session = self._known(company_id(company))
        if session.state is State.OPEN:
            raise PairingFailed(
                f"company {session.company!r} is paired and connected",
                next_step=f"Unlink it first: 'standfast logout {session.company}'.",
            )
        async with session.lock:
            await self._end(session, "session.stop", "a new pairing was asked for")
            await self._roster.prepare_pairing(session.company)
            session.pairing, session.failures = pairing, 0
            await self._launch(session)
        return session

    async def send_text(self, company: str, jid: str, text: str) -> dict[str, Any]:
        """Send a text; {"message_id", "jid", "timestamp_s"}. `SessionNotOpen`, `SendFailed`."""
        session = self._existing(company)
        if session.state is not State.OPEN:
            raise self._not_open(session)
        if not text:
            raise UsageError("the text is empty", next_step="Give a text of at least one character.")
        params = {"jid": jid, "content": {"text": text}}
        try:
            raw = await self._request(session, "message.send", params, SEND_TIMEOUT_S)
        except (SessionNotOpen, SendFailed, UsageError):
            raise
        except StandfastError as error:
            raise SendFailed(
                f"the message of company {session.company!r} may not have been sent: {error.message}"
            ) from error
        session.messages_sent += 1
        sent: dict[str, Any] = msgspec.json.decode(raw)
        return sent

    async def close(self) -> None:
        """Stop driving sessions; the engine's shutdown ends their sockets."""
        self._stopping = True
        for session in self._sessions.values():
            session.cancel_timer()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def host_ready(self) -> None:
        """Start again what ran when the host was lost."""
        for session in self._sessions.values():
            if (
                not session.is_active
                and (session.wanted or session.pairing)
                and session.state is State.CLOSED
            ):
                self._spawn(self._launch_paced(session))

    def host_lost(self, reason: str) -> None:
        for session in self._sessions.values():
            session.cancel_timer()
            if session.is_active:
                session.enter(State.CLOSED, f"the Node host ended ({reason}); it restarts by itself")
                self._tell(session)

    def host_event(self, method: str, params: msgspec.Raw) -> None:
        """Take a `session.event` notification."""
        if method != "session.event":
            return
        data: dict[str, Any] = msgspec.json.decode(params)
        session = self._sessions.get(Company(str(data.get("company"))))
        if session is None or data.get("generation") != session.generation or not session.is_active:
            return
        kind = str(data.get("kind"))
        take = self._takers.get(kind)
        if take is not None:
            take(session, data)
        self._bus.publish(Event(session.company, kind, data))

    def _take_qr(self, session: Session, data: dict[str, Any]) -> None:
        session.prompted(State.QR, str(data["qr"]), float(data.get("ttl_s", 20)))
        self._tell(session)

    def _take_code(self, session: Session, data: dict[str, Any]) -> None:
        session.prompted(State.PAIRING, str(data["code"]), float(data.get("ttl_s", 50)))
        self._tell(session)

    def _take_refusal(self, session: Session, data: dict[str, Any]) -> None:
        session.pairing = None
        reason = f"WhatsApp refused a pairing code (status {data.get('status')})"
        self._spawn(self._give_up(session, reason, "Wait some minutes, or pair by QR."))

    def _take_paired(self, session: Session, data: dict[str, Any]) -> None:
        session.paired(data.get("jid"), data.get("lid"))
        session.wanted = True
        self._spawn(self._remember(session, self._roster.linked(session.company)))
        self._tell(session)

    def _take_open(self, session: Session, data: dict[str, Any]) -> None:
        session.opened(data.get("jid"), data.get("lid"))
        self._tell(session)

    def _take_message(self, session: Session, data: dict[str, Any]) -> None:
        session.messages_received += not data["message"].get("from_me", False)
        session.last_message_at = asyncio.get_running_loop().time()

    def _take_undecryptable(self, session: Session, data: dict[str, Any]) -> None:
        session.undecryptable += 1

    def _take_error(self, session: Session, data: dict[str, Any]) -> None:
        error = from_wire(data.get("error") or {"message": data.get("message")})
        if not error.retryable:
            self._refuse(session, error)
            self._tell(session)

    def _take_closed(self, session: Session, data: dict[str, Any]) -> None:
        status = int(data.get("status") or 0)
        follow = session.closed(status, str(data.get("reason") or "closed"), steady_s=self._backoff.steady_s)
        if follow is Next.RESTART:
            self._spawn(self._relaunch(session))
        elif follow is Next.RECONNECT:
            self._reconnect_later(session)
        else:
            session.pairing = None
            if session.state is State.LOGGED_OUT:
                session.wanted = False
                self._spawn(self._remember(session, self._roster.unlinked(session.company)))
        self._tell(session)

    def _reconnect_later(self, session: Session) -> None:
        if self._stopping or not (session.wanted or session.pairing):
            return
        delay = self._backoff.delay_s(session.failures)
        session.reconnects += 1
        loop = asyncio.get_running_loop()
        session.timer = loop.call_later(delay, lambda: self._spawn(self._relaunch(session)))

    async def _relaunch(self, session: Session) -> None:
        async with self._pacing, session.lock:
            if session.state in (State.CLOSED, State.CONNECTING):
                await self._launch(session)

    async def _launch_paced(self, session: Session) -> None:
        async with self._pacing, session.lock:
            if not session.is_active:
                await self._launch(session)

    async def _launch(self, session: Session) -> None:
        """Ask the host for a socket; the session's lock is held."""
        if self._stopping:
            return None
        if self._host is None or not self._host.is_ready:
            session.enter(State.CLOSED, "waits for the Node host, which is starting")
            return self._tell(session)
        session.launched()
        self._tell(session)
        pair = session.pairing.as_wire() if session.pairing else None
        try:
            await self._request(session, "session.start", {"pair": pair}, START_TIMEOUT_S)
        except StandfastError as error:
            self._not_started(session, error)

    def _not_started(self, session: Session, error: StandfastError) -> None:
        if error.retryable:
            session.failures += 1
            session.enter(State.CLOSED, error.message, error.next_step)
            if not isinstance(error, ServiceUnavailable) or (self._host is not None and self._host.is_ready):
                self._reconnect_later(session)
        else:
            self._refuse(session, error)
        self._tell(session)

    def _refuse(self, session: Session, error: StandfastError) -> None:
        session.pairing = None
        session.enter(State.CLOSED, error.message, error.next_step)
        log.error("session not started", company=session.company, code=error.code, reason=error.message)

    async def _give_up(self, session: Session, reason: str, next_step: str) -> None:
        async with session.lock:
            await self._end(session, "session.stop", reason)
            session.enter(State.CLOSED, reason, next_step)
            self._tell(session)

    async def _end(self, session: Session, method: str, reason: str) -> None:
        """End the session's socket, if there is one; the session's lock is held."""
        session.cancel_timer()
        session.pairing = None
        was_active = session.is_active
        session.enter(State.CLOSED, reason)
        if was_active:
            try:
                await self._request(session, method, {}, STOP_TIMEOUT_S)
            except StandfastError as error:
                log.warning("session did not end cleanly", company=session.company, code=error.code)
            self._tell(session)

    async def _request(
        self, session: Session, method: str, params: dict[str, Any], timeout_s: float
    ) -> msgspec.Raw:
        if self._host is None:
            raise ServiceUnavailable("the Node host is not running")
        named = {"company": session.company, "generation": session.generation, **params}
        return await self._host.request(method, named, timeout_s=timeout_s)

    async def _want(self, session: Session, wanted: bool) -> None:
        session.wanted = wanted
        await self._remember(session, self._roster.want(session.company, wanted))

    async def _remember(self, session: Session, note: Coroutine[Any, Any, None]) -> None:
        try:
            await note
        except StandfastError as error:
            # The session itself does not depend on its row; it only decides what a restart starts.
            log.warning("the roster was not written", company=session.company, code=error.code)

    def _known(self, company: Company) -> Session:
        return self._sessions.setdefault(company, Session(company))

    def _existing(self, company: str) -> Session:
        session = self._sessions.get(company_id(company))
        if session is None:
            raise CompanyUnknown(f"there is no session of company {company!r}")
        return session

    def _not_open(self, session: Session) -> SessionNotOpen:
        why = f": {session.reason}" if session.reason else ""
        return SessionNotOpen(
            f"the session of company {session.company!r} is {session.state.value}{why}",
            next_step=session.next_step,
        )

    def _tell(self, session: Session) -> None:
        self._bus.publish(Event(session.company, "state", session.as_wire()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("session task failed", error=repr(type(task.exception())), exc_info=task.exception())
