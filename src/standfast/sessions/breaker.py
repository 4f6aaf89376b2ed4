"""The circuit breaker of a session: after several failures in a row it is left alone for a while, then tried once.

Invariant: only a connection that has lasted, or an operator, closes a breaker that has opened; what this side
hinders (no PostgreSQL, no Node host) is no failure of the session and opens none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """`OPEN`: not tried for a while. `HALF_OPEN`: one trial is under way, or has not lasted yet."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Opens after `failures` in a row, for `open_s` spread upwards by `jitter`: sessions that failed together are not
    tried together."""

    failures: int = 5
    open_s: float = 300.0
    jitter: float = 0.1


@dataclass(slots=True)
class Breaker:
    """One session's breaker."""

    failures: int = 0
    state: BreakerState = BreakerState.CLOSED

    def failed(self) -> None:
        """Count a failure."""
        self.failures += 1

    def opens(self, limits: BreakerLimits) -> bool:
        """Whether the session is now to be left alone; it is open then."""
        if self.failures < limits.failures:
            return False
        self.state = BreakerState.OPEN
        return True

    def tried(self) -> None:
        """An attempt begins."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def reset(self) -> bool:
        """It works, or an operator wants it tried: whether the breaker was not closed."""
        was_open = self.state is not BreakerState.CLOSED
        self.failures, self.state = 0, BreakerState.CLOSED
        return was_open


def pause_s(limits: BreakerLimits) -> float:
    """For how long a breaker that opens now stays open."""
    return limits.open_s * (1 + random.uniform(0, limits.jitter))
