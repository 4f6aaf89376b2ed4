"""What operators read of messages and events: translation between wire and messenger.

Decides nothing and changes nothing. Invariant: an answer fits into a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from standfast.authstate.company import company_id
from standfast.messaging.events import PAGE
from standfast.messaging.messenger import Messenger
from standfast.messaging.paging import read_page
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection

ANSWER_BYTES = 8 * 1024 * 1024
Limit = Annotated[int, Meta(ge=1, le=500)]
Number = Annotated[int, Meta(ge=0, le=2**62)]


class Get(msgspec.Struct):
    """Params of `messages.get`."""

    company: str
    message_id: str


class ListSent(msgspec.Struct):
    """Params of `messages.sent`."""

    company: str
    to: str | None = None
    state: str | None = None
    limit: Limit = 50


class ListReceived(msgspec.Struct):
    """Params of `messages.received`; `before` is an event's number."""

    company: str
    chat: str | None = None
    before: Number = 2**62
    limit: Limit = 50


class ListEvents(msgspec.Struct):
    """Params of `events.list`."""

    after: Number | None = None
    companies: list[str] = []
    kinds: list[str] = []
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = PAGE
    wait_s: Annotated[float, Meta(ge=0)] = 0.0


class Readers:
    """The methods that read, beside those of `Operators`."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "messages.get": self._get,
            "messages.sent": self._sent,
            "messages.received": self._received,
            "events.list": self._events,
        }

    async def _get(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any] | None:
        asked = checked(Get, params)
        message = self._messenger.message(asked.company, asked.message_id)
        return message.as_wire() if message is not None else None

    async def _sent(self, connection: Connection, params: msgspec.Raw) -> list[msgspec.Raw]:
        asked = checked(ListSent, params)
        found = self._messenger.sent(asked.company, to=asked.to, state=asked.state, limit=asked.limit)
        return _fitting(message.as_wire() for message in found)

    async def _received(self, connection: Connection, params: msgspec.Raw) -> list[msgspec.Raw]:
        asked = checked(ListReceived, params)
        found = self._messenger.received(
            asked.company, chat=asked.chat, before=asked.before, limit=asked.limit
        )
        return _fitting(found)

    async def _events(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        asked = checked(ListEvents, params)
        page = await read_page(
            self._messenger.mailbox.log,
            asked.after,
            companies=[company_id(one) for one in asked.companies],
            kinds=asked.kinds,
            limit=asked.limit,
            wait_s=asked.wait_s,
        )
        fitting = _fitting(page.events)
        cut = len(fitting) < len(page.events)
        return {"events": fitting, "after": page.events[len(fitting) - 1].number if cut else page.after}


def _fitting(items: Iterable[Any]) -> list[msgspec.Raw]:
    """The first of `items` that one frame can carry, encoded; long texts make pages shorter."""
    fitting: list[msgspec.Raw] = []
    room = ANSWER_BYTES
    for item in items:
        encoded = msgspec.json.encode(item)
        room -= len(encoded)
        if fitting and room < 0:
            break
        fitting.append(msgspec.Raw(encoded))
    return fitting
