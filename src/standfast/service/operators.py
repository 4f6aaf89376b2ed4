"""What operators ask over the gateway: translation between wire and session pool.

Decides nothing. Invariant: every method checks its params before anything happens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from standfast.authstate.company import company_id
from standfast.errors import ProtocolError, UsageError
from standfast.messaging.messenger import Messenger
from standfast.service.exporter import Exporter
from standfast.service.params import checked as _checked
from standfast.sessions.events import Event, EventBus
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.phone import phone_digits
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Pairing
from standfast.sessions.wire import Connection
from standfast.vault.decisions import Decisions

StatusOf = Callable[[], Awaitable[dict[str, Any]]]


class Named(msgspec.Struct):
    """Params that name a company."""

    company: str


class Pair(msgspec.Struct):
    """Params of `sessions.pair`."""

    company: str
    by: Literal["qr", "code"] = "qr"
    phone: str | None = None
    confirm: bool = False
    fallback: bool | None = None


class Send(msgspec.Struct):
    """Params of `messages.send`."""

    company: str
    to: str
    text: str | None = None
    content: dict[str, Any] | None = None
    idempotency_key: str | None = None
    wait_s: float = 0.0
    lifetime_s: Annotated[float, msgspec.Meta(gt=0, le=604_800)] | None = None


class Export(msgspec.Struct):
    """Params of `companies.export`. The service writes the folder: no key crosses the socket."""

    company: str
    folder: str
    overwrite: bool = False


class Entry(msgspec.Struct):
    """Params that name an entry of the quarantine."""

    id: int


class Apply(msgspec.Struct):
    """Params of `quarantine.apply`: an entry, or a file that a discard has written."""

    id: int | None = None
    file: str | None = None


class Subscribe(msgspec.Struct):
    """Params of `events.subscribe`."""

    company: str | None = None


def pairing_of(
    by: Literal["qr", "code"], phone: str | None, region: str | None, *, fallback: bool = False
) -> Pairing:
    """A checked wish to pair. `UsageError` where a code is asked for without a phone number."""
    if by == "qr":
        return Pairing("qr")
    if not phone:
        raise UsageError(
            "a pairing code needs the phone number of the company's WhatsApp account",
            next_step="Give it with --phone, or set WHATSAPP_PHONE_NUMBER.",
        )
    return Pairing("code", phone_digits(phone, region), fallback=fallback)


class Operators:
    """The methods of role operator, and the subscriptions of their connections."""

    def __init__(
        self,
        pool: SessionPool,
        messenger: Messenger,
        bus: EventBus,
        status: StatusOf,
        region: str | None,
        decisions: Decisions,
        exporter: Exporter,
        *,
        fallback: bool = False,
    ) -> None:
        """`fallback`: whether a pairing by code goes on by QR where the request does not say so."""
        self._pool = pool
        self._messenger = messenger
        self._bus = bus
        self._status = status
        self._region = region
        self._decisions = decisions
        self._exporter = exporter
        self._fallback = fallback
        self._subscriptions: dict[Connection, Callable[[], None]] = {}

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "status": self._get_status,
            "sessions.list": self._list,
            "sessions.pair": self._pair,
            "sessions.cancel_pairing": self._verb(self._pool.cancel_pairing),
            "sessions.start": self._verb(self._pool.start),
            "sessions.stop": self._verb(self._pool.stop),
            "sessions.restart": self._verb(self._pool.restart),
            "sessions.logout": self._verb(self._pool.logout),
            "messages.send": self._send,
            "companies.export": self._export,
            "quarantine.list": self._quarantined,
            "quarantine.show": self._show,
            "quarantine.apply": self._apply,
            "quarantine.discard": self._discard,
            "events.subscribe": self._subscribe,
            "events.unsubscribe": self._unsubscribe,
        }

    def gone(self, connection: Connection) -> None:
        """End the connection's subscription."""
        unsubscribe = self._subscriptions.pop(connection, None)
        if unsubscribe is not None:
            unsubscribe()

    async def _get_status(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return await self._status()

    async def _list(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        return [session.as_wire() for session in self._pool.sessions()]

    async def _pair(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = _checked(Pair, params)
        fallback = self._fallback if asked.fallback is None else asked.fallback
        pairing = pairing_of(asked.by, asked.phone, self._region, fallback=fallback)
        session, follows = await self._pool.begin_pairing(asked.company, pairing, confirm=asked.confirm)
        prompt = self._pool.pairings.prompt(session)
        return {
            "state": session.state.value,
            "generation": session.generation,
            "follows": follows,
            "prompt": prompt,
        }

    def _verb(self, act: Callable[[str], Awaitable[Any]]) -> OperatorMethod:
        async def serve(connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
            session = await act(company_id(_checked(Named, params).company))
            wire: dict[str, Any] = session.as_wire()
            return wire

        return serve

    async def _send(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = _checked(Send, params)
        if (asked.text is None) == (asked.content is None):
            raise UsageError("give either a text or a content", next_step="See docs/protocol.md.")
        content = asked.content if asked.content is not None else {"type": "text", "text": asked.text}
        message = await self._messenger.send(
            asked.company,
            asked.to,
            content,
            idempotency_key=asked.idempotency_key,
            wait_s=asked.wait_s,
            lifetime_s=asked.lifetime_s,
            local_files=True,  # whoever may open the gateway's socket may read the service's files
        )
        return message.as_wire()

    async def _export(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = _checked(Export, params)
        company, folder = company_id(asked.company), _absolute(asked.folder)
        keys = await self._exporter.export(company, folder, overwrite=asked.overwrite)
        return {"company": company, "folder": str(folder), "keys": keys}

    async def _quarantined(self, connection: Connection, params: msgspec.Raw) -> list[dict[str, Any]]:
        return self._decisions.entries()

    async def _show(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return await self._decisions.show(_checked(Entry, params).id)

    async def _apply(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = _checked(Apply, params)
        if asked.file is not None:
            return (await self._decisions.apply_file(_absolute(asked.file))).as_wire()
        if asked.id is None:
            raise ProtocolError("wrong params: name an id or a file")
        return (await self._decisions.apply(asked.id)).as_wire()

    async def _discard(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return (await self._decisions.discard(_checked(Entry, params).id)).as_wire()

    async def _subscribe(self, connection: Connection, params: msgspec.Raw) -> None:
        only = _checked(Subscribe, params).company
        self.gone(connection)

        def forward(event: Event) -> None:
            if only in (None, event.company):
                method = "session.state" if event.kind == "state" else "session.event"
                connection.notify(method, event.data)

        self._subscriptions[connection] = self._bus.subscribe(forward)

    async def _unsubscribe(self, connection: Connection, params: msgspec.Raw) -> None:
        self.gone(connection)


def _absolute(path: str) -> Path:
    found = Path(path)
    if not found.is_absolute():
        raise UsageError("the service needs an absolute path: it does not know where its caller stands")
    return found
