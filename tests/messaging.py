"""Messages without Node: a real file, a real pool, and a host that does what it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import SessionNotOpen, StandfastError
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.messenger import Messenger
from standfast.messaging.outbox import OutboxOptions
from standfast.sessions.backoff import Backoff
from standfast.sessions.events import EventBus
from standfast.sessions.pool import SessionPool
from standfast.sessions.roster import Identity
from standfast.sessions.session import State

ACME = Company("acme")
KEY = bytes(range(32))
ANNA, BORIS, CLARA = "79990000001", "79990000002", "79990000003"
QUICK = OutboxOptions(attempts=50, retry_base_s=0.01, retry_cap_s=0.02, flush_s=0.1)


class Wants:
    """A roster that wants acme and remembers nothing."""

    async def wanted(self) -> list[Company]:
        return [ACME]

    async def want(self, company: Company, wanted: bool) -> None: ...

    async def linked(self, company: Company) -> None: ...

    async def unlinked(self, company: Company) -> None: ...

    async def check_known(self, company: Company) -> None: ...

    async def identity(self, company: Company) -> Identity | None:
        return None

    async def prepare_pairing(
        self,
        company: Company,
        *,
        replaces: bool = False,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if release is not None:
            await release()

    async def forget_unpaired(self, company: Company) -> None: ...


class Host:
    """Takes messages; `trouble` may raise for one, and `confirms` says whether WhatsApp's server answers."""

    is_ready = True

    def __init__(self) -> None:
        self.handed: list[tuple[str, str, str]] = []  # (jid, text, message id)
        self.contents: list[Any] = []
        self.confirms = True
        self.trouble: Callable[[str, str], StandfastError | None] = lambda _jid, _text: None
        self.confirm: Callable[[str], None] = lambda _message_id: None

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        if method != "message.send":
            return msgspec.Raw(b"null")
        await asyncio.sleep(0)
        jid, text, message_id = params["jid"], params["content"].get("text", ""), params["message_id"]
        error = self.trouble(jid, text)
        if error is not None:
            raise error
        self.handed.append((jid, text, message_id))
        self.contents.append(params["content"])
        if self.confirms:
            self.confirm(message_id)
        return msgspec.Raw(
            msgspec.json.encode(
                {"message_id": message_id, "jid": jid, "timestamp_s": 1, "content": b"\x0a\x01x"}
            )
        )

    def texts(self, phone: str | None = None) -> list[str]:
        return [text for jid, text, _ in self.handed if phone is None or jid.startswith(phone)]


class Post:
    """A messenger over `directory`, with acme's session; `open()` and `close_session()` drive it."""

    def __init__(
        self,
        directory: Path,
        options: OutboxOptions = QUICK,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.alerts: list[Alert] = []
        self.bus = EventBus()
        self.mailbox = Mailbox(directory, KEY, self, clock=clock)
        self.host = Host()
        self.host.confirm = lambda message_id: self.receipt(message_id, "sent")
        self.pool = SessionPool(Wants(), self.bus, self.mailbox, Backoff(base_s=60, cap_s=60, jitter=0))
        self.pool.use_host(self.host)
        self.messenger = Messenger(self.mailbox, self.pool, self.bus, None, options)
        self.messenger.outbox._clock = clock

    def take(self, alert: Alert) -> None:
        if not alert.quiet:
            self.alerts.append(alert)

    async def start(self) -> None:
        self.mailbox.open()
        self.unsubscribe = self.mailbox.record(self.bus)
        await self.messenger.outbox.start()
        await self.pool.start_wanted()
        await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.messenger.outbox.stop()
        await self.pool.close()
        self.unsubscribe()
        await self.mailbox.close()

    async def open(self) -> None:
        """Acme's session is open from now on, over a new connection."""
        session = self.pool.session(ACME)
        assert session is not None
        if session.state is not State.CONNECTING:
            session.launched()
        self.tell({"kind": "open", "jid": "79990000009@s.whatsapp.net"})

    def close_session(self) -> None:
        self.tell({"kind": "closed", "status": 428, "reason": "connection closed"})

    def receipt(self, message_id: str, status: str) -> None:
        self.tell({"kind": "receipt", "message_id": message_id, "chat": "x@lid", "status": status})

    def tell(self, event: dict[str, Any]) -> None:
        """As the host would."""
        session = self.pool.session(ACME)
        assert session is not None
        named = {"company": ACME, "generation": session.generation, **event}
        self.pool.hearing.told("session.event", msgspec.Raw(msgspec.json.encode(named)))

    async def receive(self, message_id: str, text: str, chat: str = "123@lid", **more: Any) -> None:
        """A message that the host hands over."""
        session = self.pool.session(ACME)
        assert session is not None
        message = {
            "id": message_id,
            "chat": chat,
            "sender": chat,
            "timestamp_s": 1,
            "text": text,
            "type": "text",
            **more,
        }
        params = {"company": ACME, "generation": session.generation, "message": message}
        await self.pool.hearing.asked("message.received", msgspec.Raw(msgspec.json.encode(params)))

    async def send(self, phone: str, text: str, **more: Any) -> Any:
        return await self.messenger.send(ACME, "+" + phone, {"type": "text", "text": text}, **more)


def not_open() -> StandfastError:
    return SessionNotOpen("the session is not open")
