"""`Parts`: what the HTTP API is given of the service.

Invariant: routes reach the service through these alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from standfast.api.guard import Guard
from standfast.messaging.events import EventLog
from standfast.messaging.messenger import Messenger
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import Pairing

PairingOf = Callable[[Literal["qr", "code"], str | None, bool | None], Pairing]


@dataclass(frozen=True, slots=True)
class Parts:
    """`status` is the operator's picture, `missing` what keeps the service from taking work, `pairing_of` checks a
    wish to pair; `closing` is set when the service ends."""

    pool: SessionPool
    messenger: Messenger
    log: EventLog
    status: Callable[[], Awaitable[dict[str, Any]]]
    missing: Callable[[], list[str]]
    pairing_of: PairingOf
    guard: Guard
    closing: asyncio.Event = field(default_factory=asyncio.Event)
