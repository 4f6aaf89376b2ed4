"""The session pool: every company's session, and the operations on them.

Invariant: a session that must not reconnect (replaced, logged out, stopped) is started again only by an operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from standfast.authstate.company import Company, company_id
from standfast.errors import (
    CompanyUnknown,
    JournalUnwritable,
    PairingFailed,
    SendFailed,
    SessionNotOpen,
    StandfastError,
    UsageError,
    from_wire,
)
from standfast.sessions.backoff import Backoff
from standfast.sessions.driver import STOP_TIMEOUT_S, Host, SessionDriver
from standfast.sessions.events import Event, EventBus
from standfast.sessions.recent import RecentMessages
from standfast.sessions.session import Next, Pairing, Session, State

log = structlog.get_logger(__name__)
SEND_TIMEOUT_S = 25.0
_TRAFFIC = frozenset({"message", "receipt", "undecryptable"})


class Roster(Protocol):
    """Remembers over restarts which companies' sessions are wanted, and whose creds are dead."""

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

    async def check_known(self, company: Company) -> None:
        """Raises `CompanyUnknown` where the company has no auth state. Changes nothing."""
        ...

    async def check_pairing(self, company: Company) -> None:
        """Raises `PairingFailed` where the company is paired and alive. Changes nothing."""
        ...

    async def prepare_pairing(self, company: Company) -> None:
        """Make room for a new identity: archives and removes auth state that is dead. Raises as
        `check_pairing`."""
        ...


class SessionPool:
    """Start, stop, pair, send. It is the engine's listener: it hears what the host tells."""

    def __init__(
        self,
        roster: Roster,
        bus: EventBus,
        backoff: Backoff | None = None,
        recent: Path | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`recent` is the directory in which it is kept which messages were handed over. `check` is asked before
        each send and raises where what the send changes could not be stored."""
        self._roster = roster
        self._recent = recent
        self._check = check
        self._retried_at = 0.0
        self._bus = bus
        self._driver = SessionDriver(bus, backoff)
        self._sessions: dict[Company, Session] = {}
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
        self._driver.host = host

    def sessions(self) -> list[Session]:
        """Every session known, by company."""
        return [self._sessions[company] for company in sorted(self._sessions)]

    def session(self, company: Company) -> Session | None:
        """The company's session; None where there is none."""
        return self._sessions.get(company)

    async def start_wanted(self) -> int:
        """Start the session of every wanted company; how many. Raises what the roster raises."""
        companies = await self._roster.wanted()
        for company in companies:
            session = self._known(company)
            session.wanted = True
            self._driver.launch_later(session)
        return len(companies)

    async def start(self, company: str) -> Session:
        """Start a paired company's session; does nothing where it runs."""
        session = await self._startable(company)
        await self._want(session, True)
        async with session.lock:
            if not session.is_active:
                session.failures = 0
                await self._driver.launch(session)
        return session

    async def stop(self, company: str) -> Session:
        """End the session and do not start it again by itself. The auth state stays."""
        session = self._existing(company)
        await self._want(session, False)
        async with session.lock:
            await self._driver.end(session, "stopped by an operator")
        return session

    async def restart(self, company: str) -> Session:
        """End the session, if it runs, and start it anew."""
        session = await self._startable(company)
        await self._want(session, True)
        async with session.lock:
            await self._driver.end(session, "restarted by an operator")
            session.failures = 0
            await self._driver.launch(session)
        return session

    async def logout(self, company: str) -> Session:
        """Unlink the device at WhatsApp; the company must be paired anew afterwards."""
        session = self._existing(company)
        if session.state is not State.OPEN:
            raise _not_open(session)
        async with session.lock:
            await self._driver.request(session, "session.logout", {}, STOP_TIMEOUT_S)
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
            if session.state is State.LOGGED_OUT:
                await self._roster.unlinked(session.company)  # its note may not have been written yet
            # Before anything is ended: a request that is refused must not cost the session its connection.
            await self._check_pairing(session)
            await self._driver.end(session, "a new pairing was asked for")
            await self._roster.prepare_pairing(session.company)
            session.pairing, session.failures = pairing, 0
            await self._driver.launch(session)
        return session

    async def send_text(self, company: str, jid: str, text: str) -> dict[str, Any]:
        """Send a text; {"message_id", "jid", "timestamp_s"}. `SessionNotOpen`, `SendFailed`; `JournalUnwritable`
        where nothing was sent because its keys could not be stored."""
        session = self._existing(company)
        if session.state is not State.OPEN:
            raise _not_open(session)
        if not text:
            raise UsageError("the text is empty", next_step="Give a text of at least one character.")
        self._check()
        params = {"jid": jid, "content": {"text": text}}
        try:
            raw = await self._driver.request(session, "message.send", params, SEND_TIMEOUT_S)
        except (SessionNotOpen, SendFailed, UsageError, JournalUnwritable):
            raise
        except StandfastError as error:
            raise SendFailed(
                f"the message of company {session.company!r} may not have been sent: {error.message}"
            ) from error
        session.messages_sent += 1
        sent: dict[str, Any] = msgspec.json.decode(raw)
        return sent

    def lost(self, company: Company, error: StandfastError) -> None:
        """Another owner has the company: its session does not connect again by itself. The gateway tells the host,
        which ends the socket."""
        session = self._sessions.get(company)
        if session is not None and session.is_active:
            log.error("session lost", company=company, code=error.code, reason=error.message)
            session.lost(error)
            self._driver.tell(session)

    def retry_now(self) -> int:
        """PostgreSQL is back: try at once what waits because of it; how many sessions that is."""
        self._retried_at = time.monotonic()
        waiting = [one for one in self._sessions.values() if one.timer and one.waits_for_database]
        for session in waiting:
            self._driver.retry(session)
        return len(waiting)

    async def close(self) -> None:
        """Stop driving sessions; the engine's shutdown ends their sockets."""
        for session in self._sessions.values():
            session.cancel_timer()
        await self._driver.close()

    def release(self) -> None:
        """Give files back; after the engine has ended, because until then messages are handed over."""
        for session in self._sessions.values():
            session.recent.close()

    def host_ready(self) -> None:
        """Start again what ran when the host was lost."""
        for session in self._sessions.values():
            if session.state is State.CLOSED and (session.wanted or session.pairing):
                session.cancel_timer()
                self._driver.launch_later(session)

    def host_lost(self, reason: str) -> None:
        """The host is gone with every socket; the engine starts another."""
        for session in self._sessions.values():
            session.cancel_timer()
            if session.is_active:
                session.enter(State.CLOSED, f"the Node host ended ({reason}); it restarts by itself")
                self._driver.tell(session)

    def host_event(self, method: str, params: msgspec.Raw) -> None:
        """Take a `session.event` notification."""
        if method != "session.event":
            return
        data: dict[str, Any] = msgspec.json.decode(params)
        session = self._sessions.get(Company(str(data.get("company"))))
        if session is None or data.get("generation") != session.generation:
            return
        kind = str(data.get("kind"))
        # A socket that is being ended hands over what it had begun to decrypt; its state is settled already.
        if not session.is_active and kind not in _TRAFFIC:
            return
        if _is_double(session, kind, data):
            return
        take = self._takers.get(kind)
        if take is not None:
            take(session, data)
        self._bus.publish(Event(session.company, kind, data))
        if kind == "message":
            # Only now: a message that is remembered and was not handed over would be lost.
            session.recent.add((data["message"]["chat"], data["message"]["id"]))

    def _take_qr(self, session: Session, data: dict[str, Any]) -> None:
        session.prompted(State.QR, str(data["qr"]), float(data.get("ttl_s", 20)))
        self._driver.tell(session)

    def _take_code(self, session: Session, data: dict[str, Any]) -> None:
        session.prompted(State.PAIRING, str(data["code"]), float(data.get("ttl_s", 50)))
        self._driver.tell(session)

    def _take_refusal(self, session: Session, data: dict[str, Any]) -> None:
        reason = f"WhatsApp refused a pairing code (status {data.get('status')})"
        self._driver.spawn(self._give_up(session, reason))

    def _take_paired(self, session: Session, data: dict[str, Any]) -> None:
        session.paired(data.get("jid"), data.get("lid"))
        session.wanted = True
        self._driver.spawn(self._remember(session, self._roster.linked(session.company)))
        self._driver.tell(session)

    def _take_open(self, session: Session, data: dict[str, Any]) -> None:
        session.opened(data.get("jid"), data.get("lid"))
        self._driver.tell(session)

    def _take_message(self, session: Session, data: dict[str, Any]) -> None:
        session.received(from_me=bool(data["message"].get("from_me", False)))

    def _take_undecryptable(self, session: Session, _data: dict[str, Any]) -> None:
        session.undecryptable += 1

    def _take_error(self, session: Session, data: dict[str, Any]) -> None:
        error = from_wire(data.get("error") or {"message": data.get("message")})
        if error.retryable:
            session.hindered(error)
        else:
            self._driver.refuse(session, error)

    def _take_closed(self, session: Session, data: dict[str, Any]) -> None:
        status = int(data.get("status") or 0)
        reason = str(data.get("reason") or "closed")
        follow = session.closed(status, reason, steady_s=self._driver.backoff.steady_s)
        if follow is Next.RESTART:
            self._driver.relaunch(session)
        elif follow is Next.RECONNECT:
            self._reconnect(session)
        else:
            session.pairing = None
        if session.state is State.LOGGED_OUT:
            session.wanted = False
            self._driver.spawn(self._remember(session, self._roster.unlinked(session.company)))
        self._driver.tell(session)

    def _reconnect(self, session: Session) -> None:
        # An attempt that was under way when PostgreSQL came back must not wait for the next one's turn.
        if session.waits_for_database and session.launched_at < self._retried_at:
            self._driver.retry(session)
        else:
            self._driver.reconnect_later(session)

    async def _give_up(self, session: Session, reason: str) -> None:
        async with session.lock:
            await self._driver.end(session, reason, "Wait some minutes, or pair by QR.")

    async def _want(self, session: Session, wanted: bool) -> None:
        session.wanted = wanted
        await self._remember(session, self._roster.want(session.company, wanted))

    async def _remember(self, session: Session, note: Coroutine[Any, Any, None]) -> None:
        try:
            await note
        except StandfastError as error:
            # The session itself does not depend on its row; it only decides what a restart starts.
            log.warning("the roster was not written", company=session.company, code=error.code)

    async def _check_pairing(self, session: Session) -> None:
        try:
            await self._roster.check_pairing(session.company)
        except PairingFailed as error:
            if session.state is State.CLOSED:
                session.enter(State.CLOSED, error.message, error.next_step)
            raise

    async def _startable(self, company: str) -> Session:
        """The company's session. `CompanyUnknown` for one that nobody has paired: no row of it may be left behind."""
        if company_id(company) not in self._sessions:
            await self._roster.check_known(company_id(company))
        return self._known(company_id(company))

    def _known(self, company: Company) -> Session:
        session = self._sessions.get(company)
        if session is None:
            file = self._recent / company if self._recent else None
            session = self._sessions[company] = Session(company, recent=RecentMessages(file))
        return session

    def _existing(self, company: str) -> Session:
        session = self._sessions.get(company_id(company))
        if session is None:
            raise CompanyUnknown(f"there is no session of company {company!r}")
        return session


def _is_double(session: Session, kind: str, data: dict[str, Any]) -> bool:
    """Whether this is a message that was handed over already, or the failure to decrypt its copy."""
    if kind == "message":
        return (data["message"]["chat"], data["message"]["id"]) in session.recent
    return kind == "undecryptable" and (data["chat"], data["message_id"]) in session.recent


def _not_open(session: Session) -> SessionNotOpen:
    why = f": {session.reason}" if session.reason else ""
    return SessionNotOpen(
        f"the session of company {session.company!r} is {session.state.value}{why}",
        next_step=session.next_step,
    )
