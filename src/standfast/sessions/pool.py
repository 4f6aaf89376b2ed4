"""The session pool: every company's session, and the operations on them.

Invariant: a session that must not reconnect (replaced, logged out, stopped) is started again only by an operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company, company_id
from standfast.errors import (
    CompanyUnknown,
    JournalUnwritable,
    SendFailed,
    SessionNotOpen,
    StandfastError,
    UsageError,
)
from standfast.sessions import alarms
from standfast.sessions.backoff import Backoff
from standfast.sessions.driver import STOP_TIMEOUT_S, SessionDriver
from standfast.sessions.events import EventBus
from standfast.sessions.hearing import FindHolder, Hearing, Messages, nobody_known
from standfast.sessions.host import Host, HostChoice, SingleHost
from standfast.sessions.pairing import PairingOptions, Pairings
from standfast.sessions.roster import Roster, remember
from standfast.sessions.session import ENDED, Pairing, Session, State

log = structlog.get_logger(__name__)
SEND_TIMEOUT_S = 25.0
ASK_TIMEOUT_S = 15.0


class SessionPool:
    """Start, stop, pair, send. `hearing` is told what hosts tell."""

    def __init__(
        self,
        roster: Roster,
        bus: EventBus,
        messages: Messages,
        backoff: Backoff | None = None,
        check: Callable[[], None] = lambda: None,
        alerts: AlertSink | None = None,
        find_holder: FindHolder = nobody_known,
        pairing: PairingOptions | None = None,
    ) -> None:
        """`check` is asked before each send and raises where what the send changes could not be stored. `find_holder`
        says in words who else has a company, where that can be known."""
        self._roster = roster
        self._check = check
        self._driver = SessionDriver(bus, backoff, alerts)
        self._sessions: dict[Company, Session] = {}
        self.pairings = Pairings(roster, self._driver, bus, pairing)
        self.hearing = Hearing(
            self._sessions, roster, bus, self._driver, messages, self.pairings, find_holder
        )

    def use_hosts(self, hosts: HostChoice) -> None:
        """Name the hosts (they need the pool as their listener, so they come second)."""
        self._driver.hosts = hosts

    def use_host(self, host: Host) -> None:
        """Name one host for every company."""
        self.use_hosts(SingleHost(host))

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
            session.wanted, session.elsewhere = True, None
            self._driver.launch_later(session)
        return len(companies)

    async def start(self, company: str) -> Session:
        """Start a paired company's session; does nothing where it runs."""
        session = await self._startable(company)
        await self._want(session, True)
        async with session.lock:
            if not session.is_active:
                session.forgive()
                await self._driver.launch(session)
        return session

    async def stop(self, company: str) -> Session:
        """End the session and do not start it again by itself. The auth state stays."""
        # Also where there is no session any more: an alert of it may be open, and this is how an operator ends that.
        self._driver.alert(alarms.unwanted(company_id(company)))
        session = self._existing(company)
        await self._want(session, False)
        async with session.lock:
            await self._driver.end(session, "stopped by an operator")
        return session

    async def give_up(self, company: str, to: str) -> Session:
        """End the session: the node `to` goes on with it. The wish to have it connected stays as it is."""
        session = self._existing(company)
        session.wanted = False
        async with session.lock:
            next_step = f"Use it there; 'standfast start {company}' there, should it not run."
            await self._driver.end(session, f"handed over to the node {to}", next_step)
        return session

    async def restart(self, company: str) -> Session:
        """End the session, if it runs, and start it anew."""
        session = await self._startable(company)
        await self._want(session, True)
        async with session.lock:
            await self._driver.end(session, "restarted by an operator")
            session.forgive()
            await self._driver.launch(session)
        return session

    async def logout(self, company: str) -> Session:
        """Unlink the device at WhatsApp; the company must be paired anew afterwards."""
        session = self.open_session(company)
        async with session.lock:
            session.unlinking = True
            try:
                await self._driver.request(session, "session.logout", {}, STOP_TIMEOUT_S)
            except StandfastError:
                session.unlinking = False
                raise
        return session

    async def pair(self, company: str, pairing: Pairing, *, confirm: bool = False) -> Session:
        """Begin pairing, or follow the same one that is under way; QR or code follow as events. `PairingFailed`
        where the company is paired, `Conflict` where it has another number and `confirm` is not set."""
        session, _ = await self.begin_pairing(company, pairing, confirm=confirm)
        return session

    async def begin_pairing(
        self, company: str, pairing: Pairing, *, confirm: bool = False
    ) -> tuple[Session, bool]:
        """As `pair`; and whether the same pairing was under way already."""
        session = self._known(company_id(company))
        return session, await self.pairings.begin(session, pairing, confirm=confirm)

    async def cancel_pairing(self, company: str) -> Session:
        """End a pairing that is not done and leave nothing of it; does nothing where none is under way."""
        session = self._existing(company)
        await self.pairings.cancel(session)
        return session

    async def send(
        self,
        company: str,
        jid: str,
        content: Mapping[str, Any],
        message_id: str | None = None,
        quoted: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Hand a message (Baileys' `AnyMessageContent`) to the open session now; {"message_id", "jid", "timestamp_s",
        "content"} once it has left. `SessionNotOpen`, `SendFailed`; `JournalUnwritable` where nothing was sent because
        its keys could not be stored."""
        self._check()
        params: dict[str, Any] = {"jid": jid, "content": content}
        if message_id is not None:
            params["message_id"] = message_id
        if quoted is not None:
            params["quoted"] = quoted
        session = self.open_session(company)
        try:
            raw = await self._driver.request(session, "message.send", params, timeout_s or SEND_TIMEOUT_S)
        except (SessionNotOpen, SendFailed, UsageError, JournalUnwritable):
            raise
        except StandfastError as error:
            raise SendFailed(
                f"the message of company {session.company!r} may not have been sent: {error.message}"
            ) from error
        session.messages_sent += 1
        sent: dict[str, Any] = msgspec.json.decode(raw)
        return sent

    async def ask(
        self, company: str, method: str, params: Mapping[str, Any], timeout_s: float = ASK_TIMEOUT_S
    ) -> Any:
        """The host's answer about an open session; `SessionNotOpen`, or what the host answers with."""
        raw = await self._driver.request(self.open_session(company), method, dict(params), timeout_s)
        return msgspec.json.decode(raw)

    def awaited(self, company: str) -> Session:
        """The company's session, open or on its way to be. Raises `CompanyUnknown`, or `SessionNotOpen` where only
        somebody's doing would open it."""
        session = self._existing(company)
        if session.elsewhere is not None:
            raise SessionNotOpen(
                f"the session of company {session.company!r} is at the node {session.elsewhere}",
                next_step="Send it there; this node goes on with it only should that one die.",
            )
        if session.state is State.OPEN:
            return session
        if session.wanted and session.state not in ENDED:
            return session
        raise _not_open(session)

    def open_session(self, company: str) -> Session:
        """The company's session. Raises `CompanyUnknown`, or `SessionNotOpen` where it is not open just now."""
        session = self._existing(company)
        if session.state is not State.OPEN:
            raise _not_open(session)
        return session

    def lost(self, company: Company, error: StandfastError) -> None:
        """Another owner has the company: its session does not connect again by itself. The gateway tells the host,
        which ends the socket."""
        session = self._sessions.get(company)
        if session is not None and session.is_active:
            log.error("session lost", company=company, error=error.code, reason=error.message)
            session.lost(error)
            self._driver.tell(session)
            self._driver.spawn(self.hearing.name_holder(session))

    async def renew(self, session: Session, why: str) -> None:
        """The session is deaf: connect it anew at once."""
        log.warning("deaf session", company=session.company, reason=why)
        if await self._driver.renew(session, f"it was deaf ({why}) and is connected anew"):
            self._driver.alert(alarms.deaf(session, why))

    async def move(self, session: Session, assign: Callable[[], None]) -> bool:
        """Connect the session anew at the host that `assign` gives it to; whether that was done."""
        return await self._driver.renew(session, "moves to another Node host", assign)

    def runs(self, company: Company) -> bool:
        """Whether the company's session has a socket, or gets one by itself."""
        session = self._sessions.get(company)
        return session is not None and session.runs

    def retry_now(self) -> int:
        """PostgreSQL is back: try at once what waits because of it; how many sessions that is."""
        self.hearing.retried_at = time.monotonic()
        waiting = [one for one in self._sessions.values() if one.timer and one.waits_for_database]
        for session in waiting:
            self._driver.retry(session)
        return len(waiting)

    async def halt(self) -> None:
        """Start no session any more; the hosts' shutdown ends the sockets, and what they tell then is still heard."""
        for session in self._sessions.values():
            session.cancel_timer()
            session.cancel_steady()
        await self._driver.halt()

    async def close(self) -> None:
        """Halt, and wait until everything was written down."""
        await self.halt()
        await self._driver.close()

    async def _want(self, session: Session, wanted: bool) -> None:
        session.wanted, session.elsewhere = wanted, None
        await remember(session.company, self._roster.want(session.company, wanted))

    async def _startable(self, company: str) -> Session:
        """The company's session. `CompanyUnknown` for one that nobody has paired: no row of it may be left behind."""
        if company_id(company) not in self._sessions:
            await self._roster.check_known(company_id(company))
        return self._known(company_id(company))

    def _known(self, company: Company) -> Session:
        session = self._sessions.get(company)
        if session is None:
            session = self._sessions[company] = Session(company)
        return session

    def _existing(self, company: str) -> Session:
        session = self._sessions.get(company_id(company))
        if session is None:
            raise CompanyUnknown(f"there is no session of company {company!r}")
        return session


def _not_open(session: Session) -> SessionNotOpen:
    why = f": {session.reason}" if session.reason else ""
    return SessionNotOpen(
        f"the session of company {session.company!r} is {session.state.value}{why}",
        next_step=session.next_step,
    )
