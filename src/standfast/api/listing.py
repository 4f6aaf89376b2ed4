"""Messages of both directions as one list, newest first, a page at a time.

Invariant: who follows `next` to its end has seen each message that was there when he began, once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from standfast.errors import UsageError
from standfast.messaging.events import LoggedEvent
from standfast.messaging.messenger import Messenger
from standfast.messaging.outgoing import Outgoing

NEWEST = 2**62
_CURSOR = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Below which numbers the page stands; each direction is numbered by itself, 0 is its end."""

    sent: int = NEWEST
    received: int = NEWEST

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """What `next` of the page before said. `UsageError` for anything else."""
        if text is None:
            return cls()
        found = _CURSOR.fullmatch(text)
        if found is None or max(int(found[1]), int(found[2])) > NEWEST:
            raise UsageError(
                "'before' is not what 'next' of a page was", next_step="Leave it out to begin anew."
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.sent}.{self.received}"


def page_of(
    messenger: Messenger,
    company: str,
    *,
    direction: str = "all",
    chat: str | None = None,
    state: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> dict[str, Any]:
    """A page as it is answered; with `state` only messages that were sent have one."""
    cursor = Cursor.parse(before)
    sent: list[Outgoing] = []
    received: list[LoggedEvent] = []
    if direction != "received":
        sent = messenger.sent(company, to=chat, state=state, before=cursor.sent, limit=limit)
    if direction != "sent" and state is None:
        received = messenger.received(company, chat=chat, before=cursor.received, limit=limit)
    both: list[Outgoing | LoggedEvent] = [*sent, *received]
    merged = sorted(both, key=_recency, reverse=True)[:limit]
    return {
        "messages": [_wire(one) for one in merged],
        "next": str(_below(cursor, merged)) if len(merged) == limit else None,
    }


def received_wire(event: LoggedEvent) -> dict[str, Any]:
    """A received message."""
    return {
        "direction": "received",
        "company": event.company,
        "message_id": event.data["id"],
        "at": round(event.at, 3),
        "number": event.number,
        "message": event.data,
    }


def _recency(one: Outgoing | LoggedEvent) -> tuple[float, int]:
    return (one.at, one.number)


def _wire(one: Outgoing | LoggedEvent) -> dict[str, Any]:
    return {"direction": "sent", **one.as_wire()} if isinstance(one, Outgoing) else received_wire(one)


def _below(cursor: Cursor, shown: list[Outgoing | LoggedEvent]) -> Cursor:
    sent = [one.number for one in shown if isinstance(one, Outgoing)]
    received = [one.number for one in shown if not isinstance(one, Outgoing)]
    return Cursor(min([cursor.sent, *sent]), min([cursor.received, *received]))
