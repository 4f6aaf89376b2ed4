"""`Hearing`: what Node hosts tell about sessions, and ask for them.

Invariant: what a host tells of an older generation changes nothing; a received message is answered, so that its receipt
may leave, only once it is kept (`Messages.take`) and was published.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import msgspec
import structlog

from standfast.authstate.company import Company
from standfast.errors import ProtocolError, SessionNotOpen, from_wire
from standfast.sessions import alarms
from standfast.sessions.driver import SessionDriver
from standfast.sessions.events import Event, EventBus
from standfast.sessions.pairing import Pairings
from standfast.sessions.roster import Roster, remember
from standfast.sessions.session import REPLACED, Next, Session, State

log = structlog.get_logger(__name__)
_TRAFFIC = frozenset({"receipt", "undecryptable"})


class Messages(Protocol):
    """Who keeps messages: what the rooms above do for sessions."""

    async def take(
        self, company: Company, message: dict[str, Any], attachment: bytes | None = None
    ) -> int | None:
        """Keep a received message (docs/protocol.md, "Events"), and what is needed to download its file; its number
        once it is durable, None where it was kept before. Raises `JournalUnwritable` where it cannot be kept."""
        ...

    def knows(self, company: Company, chat: str, message_id: str) -> bool:
        """Whether the message was taken lately."""
        ...

    def sent_content(self, company: Company, message_id: str) -> bytes | None:
        """What the company sent under this id, as WhatsApp's protocol buffer, for a receiver that asks for it again;
        None where that is not kept, or not any more."""
        ...


FindHolder = Callable[[Company], Awaitable[str | None]]


async def nobody_known(_company: Company) -> str | None:
    """For a service that can look nowhere."""
    return None


class Received(msgspec.Struct):
    """Params of `message.received`."""

    company: str
    generation: int
    message: dict[str, Any]
    attachment: bytes | None = None


class Named(msgspec.Struct):
    """Params of `message.content`."""

    company: str
    message_id: str


class Hearing:
    """Hears hosts for the session pool, whose `sessions` it changes."""

    def __init__(
        self,
        sessions: dict[Company, Session],
        roster: Roster,
        bus: EventBus,
        driver: SessionDriver,
        messages: Messages,
        pairings: Pairings,
        find_holder: FindHolder = nobody_known,
    ) -> None:
        """`find_holder` says in words who else has a company, where that can be known."""
        self._sessions = sessions
        self._roster = roster
        self._bus = bus
        self._driver = driver
        self._messages = messages
        self._find_holder = find_holder
        self._pairings = pairings
        self.retried_at = 0.0  # when sessions that waited for PostgreSQL were tried at once
        self._takers: dict[str, Callable[[Session, dict[str, Any]], None]] = {
            "qr": self._take_qr,
            "pairing_code": self._take_code,
            "pairing_refused": self._take_refusal,
            "paired": self._take_paired,
            "open": self._take_open,
            "undecryptable": self._take_undecryptable,
            "error": self._take_error,
            "closed": self._take_closed,
        }
        self._answers: dict[str, Callable[[msgspec.Raw], Awaitable[Any]]] = {
            "message.received": self._received,
            "message.content": self._content,
        }

    def ready(self) -> None:
        """A host is there: start what waited for one."""
        for session in self._sessions.values():
            if session.awaits_host and (session.wanted or session.pairing):
                self._driver.launch_later(session)

    def lost(self, reason: str, companies: Iterable[Company]) -> None:
        """A host is gone with the sockets of these companies; another is started in its place."""
        for company in companies:
            session = self._sessions.get(company)
            if session is not None and session.is_active:
                session.awaits_host = True
                session.enter(State.CLOSED, f"its Node host ended ({reason}); it restarts by itself")
                self._driver.tell(session)

    async def asked(self, method: str, params: msgspec.Raw) -> Any:
        """Answer a host's request."""
        answer = self._answers.get(method)
        if answer is None:
            raise ProtocolError(f"there is no method {method[:60]!r} for hosts")
        try:
            return await answer(params)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"wrong params for {method}: {error}") from None

    def told(self, method: str, params: msgspec.Raw) -> None:
        """Take a `session.event` notification."""
        if method != "session.event":
            return
        data: dict[str, Any] = msgspec.json.decode(params)
        session = self._sessions.get(Company(str(data.get("company"))))
        if session is None or data.get("generation") != session.generation:
            return
        kind = str(data.get("kind"))
        # A socket that is being ended tells what becomes of its traffic; its state is settled already.
        if not session.is_active and kind not in _TRAFFIC:
            return
        if kind == "undecryptable" and self._messages.knows(
            session.company, data["chat"], data["message_id"]
        ):
            return  # the copy of a message that was taken
        take = self._takers.get(kind)
        if take is not None:
            take(session, data)
        self._bus.publish(Event(session.company, kind, data))

    async def _received(self, params: msgspec.Raw) -> None:
        received = msgspec.json.decode(params, type=Received)
        session = self._sessions.get(Company(received.company))
        if session is None or received.generation != session.generation:
            # The company may have another socket by now, perhaps on another host: the server delivers it there.
            raise SessionNotOpen(f"generation {received.generation} is not the session's any more")
        number = await self._messages.take(session.company, received.message, received.attachment)
        if number is None:
            return
        session.received(from_me=bool(received.message.get("from_me", False)))
        data = {
            "company": session.company,
            "generation": received.generation,
            "kind": "message",
            "number": number,
            "message": received.message,
        }
        self._bus.publish(Event(session.company, "message", data))

    async def _content(self, params: msgspec.Raw) -> dict[str, Any]:
        named = msgspec.json.decode(params, type=Named)
        return {"content": self._messages.sent_content(Company(named.company), named.message_id)}

    def _take_qr(self, session: Session, data: dict[str, Any]) -> None:
        session.prompted(State.QR, str(data["qr"]), float(data.get("ttl_s", 20)))
        self._driver.tell(session)

    def _take_code(self, session: Session, data: dict[str, Any]) -> None:
        session.prompted(State.PAIRING, str(data["code"]), float(data.get("ttl_s", 50)))
        self._pairings.code_shown(session)
        self._driver.tell(session)

    def _take_refusal(self, session: Session, data: dict[str, Any]) -> None:
        self._pairings.refused(session, int(data.get("status") or 0))

    def _take_paired(self, session: Session, data: dict[str, Any]) -> None:
        self._pairings.paired(session, data)
        session.paired(data.get("jid"), data.get("lid"))
        session.wanted = True
        self._driver.note(remember(session.company, self._roster.linked(session.company)))
        self._driver.tell(session)

    def _take_open(self, session: Session, data: dict[str, Any]) -> None:
        session.opened(data.get("jid"), data.get("lid"))
        self._driver.opened(session)
        self._driver.tell(session)

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
            self._ended(session)
        self._driver.tell(session)

    def _ended(self, session: Session) -> None:
        """Nothing follows by itself: somebody must be told."""
        session.pairing = None
        if session.state is State.LOGGED_OUT:
            session.wanted = False
            self._driver.note(remember(session.company, self._roster.unlinked(session.company)))
            alarm = alarms.unwanted(session.company) if session.unlinking else alarms.logged_out(session)
            self._driver.alert(alarm)
        elif session.state is State.FORBIDDEN:
            self._driver.alert(alarms.forbidden(session))
        elif session.state is State.REPLACED:
            self._driver.spawn(self.name_holder(session))

    async def name_holder(self, session: Session) -> None:
        """Tell that it was replaced, and by whom."""
        generation, holder = session.generation, await self._find_holder(session.company)
        if session.state is not State.REPLACED or session.generation != generation:
            return
        if session.status == REPLACED:
            session.reason = f"{session.reason}: {holder or 'another client of WhatsApp'}"
        self._driver.alert(alarms.replaced(session, holder))
        self._driver.tell(session)

    def _reconnect(self, session: Session) -> None:
        # An attempt that was under way when PostgreSQL came back must not wait for the next one's turn.
        if session.waits_for_database and session.launched_at < self.retried_at:
            self._driver.retry(session)
        else:
            self._driver.reconnect_later(session)
