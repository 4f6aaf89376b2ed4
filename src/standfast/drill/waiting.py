"""Waiting for something, by a deadline.

Invariant: a wait ends with what was waited for or with `DrillFailed` that names it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from standfast.errors import DrillFailed, StandfastError

POLL_S = 0.02
T = TypeVar("T")


async def until(
    look: Callable[[], Awaitable[T | None]], what: str, timeout_s: float, *, poll_s: float = POLL_S
) -> T:
    """The first answer that is true. What `look` raises of ours is "not yet"; the last of it is told."""
    deadline, last = time.monotonic() + timeout_s, ""
    while True:
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + max(0.1, deadline - time.monotonic())
            ):
                found = await look()
            if found:
                return found
        except (StandfastError, TimeoutError) as error:
            last = f": {error}" if str(error) else ""
        if time.monotonic() > deadline:
            raise DrillFailed(f"waited {timeout_s:g} s in vain until {what}{last}")
        await asyncio.sleep(poll_s)
