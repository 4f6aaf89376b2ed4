"""`LoopLag`: how late the event loop is.

Invariant: it costs two wake-ups a second, and one long moment alone is no delay: what is told has happened repeatedly.
"""

from __future__ import annotations

import asyncio
from collections import deque

INTERVAL_S = 0.5
KEPT = 120
SHARE = 0.95


class LoopLag:
    """`run()` beside everything."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._delays_s: deque[float] = deque(maxlen=KEPT)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            self._delays_s.append(max(0.0, loop.time() - due))

    @property
    def delay_ms(self) -> float | None:
        """Of twenty wake-ups of the last minute, one was later than this; None before there are enough."""
        delays = sorted(self._delays_s)
        if len(delays) < 1 / (1 - SHARE):
            return None
        return round(delays[int(SHARE * len(delays))] * 1000, 1)
