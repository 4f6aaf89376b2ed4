"""`Parts`: what the HTTP API is given of the service.

Invariant: routes reach the service through these alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from standfast.api.guard import Guard
from standfast.health.metrics import Metrics
from standfast.messaging.events import EventLog
from standfast.messaging.messenger import Messenger
from standfast.messaging.outgoing import Outgoing
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Pairing

T = TypeVar("T")
AlertsOf = Callable[[float, bool, Sequence[str], int], Awaitable[dict[str, Any]]]
PairingOf = Callable[[Literal["qr", "code"], str | None, bool | None], Pairing]


@dataclass(frozen=True, slots=True)
class Parts:
    """`status` is the operator's picture, `missing` what keeps the service from taking work, `pairing_of` checks a
    wish to pair; `alerts` lists those of the last seconds, perhaps only open ones, of these companies, so many;
    `metrics` is None where none are served; `closing` is set when the service ends."""

    pool: SessionPool
    messenger: Messenger
    log: EventLog
    status: Callable[[], Awaitable[dict[str, Any]]]
    missing: Callable[[], list[str]]
    pairing_of: PairingOf
    guard: Guard
    alerts: AlertsOf
    metrics: Metrics | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def settled(self, message: Outgoing, wait_s: float) -> Outgoing:
        """The message as it stands once WhatsApp has it, or after `wait_s`; at once where the service ends."""
        if wait_s <= 0:
            return message
        return await self.unless_closing(self.messenger.outbox.settled(message, wait_s)) or message

    async def unless_closing(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """What `waiting` gives; None where the service ends before that: whoever asked shall have an answer."""
        work, end = asyncio.ensure_future(waiting), asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            for task in (work, end):
                task.cancel()
            await asyncio.wait({work, end})
