"""Asking a running service how it is.

Invariant: it imports no more than the question needs, so that the answer is there in a blink; the wait has an end.
"""

from __future__ import annotations

import asyncio

import msgspec

from standfast.errors import ProtocolError, ServiceUnavailable
from standfast.health.document import Health
from standfast.service.link import Link

ASK_TIMEOUT_S = 1.5


async def ask_health(link: Link, *, verbose: bool = False, timeout_s: float = ASK_TIMEOUT_S) -> Health:
    """The service's picture of itself. Raises `ServiceUnavailable` where none answers within `timeout_s`, connecting
    included (the fact `hangs`: it listens), and `ProtocolError` where it is too old to know the question."""
    try:
        async with asyncio.timeout(timeout_s):
            raw = await link.request("health.get", {"verbose": verbose}, timeout_s + 1)
    except TimeoutError:
        raise ServiceUnavailable(f"listens and gives no answer within {timeout_s:g} s", hangs=True) from None
    try:
        return msgspec.json.decode(raw, type=Health)
    except msgspec.MsgspecError:
        raise ProtocolError("the service's picture of its health is none that this version knows") from None
