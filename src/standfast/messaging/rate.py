"""`NewChats`: how many new chats a company may begin in a minute.

WhatsApp restricts numbers that write to many people who never wrote to them. A chat is new until a message came from it
or was sent to it. Invariant: in no minute does a company begin more new chats than its limit, restarts included.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from standfast.errors import SettingsError

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class NewChatLimit:
    """A minute's limit of new chats: `default`, or a company's own; 0 is none."""

    default: int = 12
    companies: dict[str, int] = field(default_factory=dict)

    def of(self, company: str) -> int:
        return self.companies.get(company, self.default)


def parse_limit(text: str) -> NewChatLimit:
    """`12`, or `12,acme=60,shop=0`: the default, then companies with their own. Raises `SettingsError`."""
    default, companies = 12, {}
    try:
        for part in filter(None, (part.strip() for part in text.split(","))):
            company, equals, number = part.rpartition("=")
            limit = int(number)
            if limit < 0:
                raise ValueError
            if equals:
                companies[company.strip()] = limit
            else:
                default = limit
    except ValueError:
        raise SettingsError(
            "STANDFAST_NEW_CHATS_PER_MINUTE is not a number, or a list such as 12,acme=60",
            next_step="Write a number of new chats a minute (0: no limit), then company=number where one differs.",
        ) from None
    return NewChatLimit(default, companies)


class NewChats:
    """One company's new chats of the last minute; `begun` are the times of the latest, oldest first."""

    def __init__(
        self, limit: int, begun: Iterable[float] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._limit = limit
        self._begun: deque[float] = deque(begun, maxlen=max(limit, 1))
        self._clock = clock
        self._turn = asyncio.Lock()

    @property
    def wait_s(self) -> float:
        """How long the next new chat would wait now."""
        if self._limit == 0 or len(self._begun) < self._limit:
            return 0.0
        # A clock that was set back must not hold messages for longer than a window.
        return min(WINDOW_S, max(0.0, self._begun[0] + WINDOW_S - self._clock()))

    async def begin(self) -> None:
        """Wait until a new chat may be begun, in the order of asking, and count it."""
        async with self._turn:
            while True:
                wait_s = self.wait_s
                if wait_s <= 0:
                    break
                await asyncio.sleep(wait_s)
            self._begun.append(self._clock())
