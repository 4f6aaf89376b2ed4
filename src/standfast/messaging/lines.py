"""`Line`: one company's messages on their way, a `Lane` for each chat.

Invariant: a lane's first message is the next that its chat may get; no other one is handed over before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from standfast.authstate.company import Company
from standfast.messaging.rate import NewChats


@dataclass(slots=True, eq=False)
class Item:
    """One message that is to be brought to WhatsApp; `left_at` in seconds of the loop's clock, `trace`
    the span in which it was accepted."""

    number: int
    message_id: str
    chat: bytes
    expires_at: float
    attempts: int = 0
    left_at: float | None = None
    is_confirmed: bool = False
    trace: Any = None


@dataclass(slots=True, eq=False)
class Lane:
    """One chat's messages that are to be handed over, in order."""

    items: deque[Item] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    under_way: Item | None = None

    def drop(self, item: Item) -> None:
        with contextlib.suppress(ValueError):
            self.items.remove(item)


@dataclass(slots=True, eq=False)
class Line:
    """One company's lanes, and what has left and is not confirmed."""

    company: Company
    slots: asyncio.Semaphore
    new_chats: NewChats
    lanes: dict[bytes, Lane] = field(default_factory=dict)
    unconfirmed: dict[str, Item] = field(default_factory=dict)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    begun: set[bytes] = field(default_factory=set)  # chats whose first message was let through in this run

    @property
    def waiting(self) -> int:
        """How many messages WhatsApp has not confirmed."""
        ahead = {item.message_id for lane in self.lanes.values() for item in lane.items}
        return len(ahead | self.unconfirmed.keys())

    def put_first(self, items: Iterable[Item]) -> list[bytes]:
        """What left, and is to be sent again, goes before everything else in its chat; which chats those are."""
        chats = []
        for item in sorted(items, key=lambda one: one.number, reverse=True):
            lane = self.lanes.setdefault(item.chat, Lane())
            if item not in lane.items:
                lane.items.appendleft(item)
            item.left_at = None
            self.unconfirmed.pop(item.message_id, None)
            chats.append(item.chat)
        return chats

    def confirmed(self, message_id: str) -> None:
        """WhatsApp has the message. Where it is to be sent again, its turn finds nothing to do."""
        item = self.unconfirmed.pop(message_id, None)
        if item is not None:
            item.is_confirmed = True
