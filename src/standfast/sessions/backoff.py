"""When to try a closed connection again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from standfast.sessions.breaker import BreakerLimits


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before the n-th attempt in a row: `base_s` × 2ⁿ⁻¹, at most `cap_s`, spread by ± `jitter`.

    `steady_s` is how long a connection must have been open to count as a success. `breaker` bounds how often in a row.
    """

    base_s: float = 5.0
    cap_s: float = 60.0
    jitter: float = 0.2
    steady_s: float = 30.0
    breaker: BreakerLimits = field(default_factory=BreakerLimits)

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after `failures` (≥ 1) failures in a row."""
        delay = min(self.cap_s, self.base_s * 2.0 ** min(max(failures, 1) - 1, 16))
        return delay * (1 + random.uniform(-self.jitter, self.jitter))
