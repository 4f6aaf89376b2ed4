"""`OutageTimes`: when PostgreSQL was away, so that what an outage brings with it is not told a second time.

Invariant: a moment is in an outage from some seconds before it was known until some seconds after its end. While one is
suspected, what happens now is held back: it may turn out to be its beginning.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

MARGIN_S = (
    15.0  # an outage begins before it is known, calls that it met end after it, and looks are 10 s apart
)
_KEPT = 100


class OutageTimes:
    """`is_away` says whether PostgreSQL is in an outage now, `is_suspected` whether that will be known in a moment.
    `note` is to be called every 10 s or so."""

    def __init__(
        self,
        is_away: Callable[[], bool] = lambda: False,
        is_suspected: Callable[[], bool] = lambda: False,
    ) -> None:
        self.is_away = is_away
        self.is_suspected = is_suspected
        self._known: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def note(self) -> None:
        """Remember it if there is an outage now."""
        if not self.is_away():
            return
        now_s = began_s = time.monotonic()
        if self._known and self._known[-1][1] >= now_s - MARGIN_S:
            began_s = self._known.pop()[0]
        self._known.append((began_s, now_s))

    def met(self, from_s: float, to_s: float) -> bool:
        """Whether an outage, or what may become one, touched that time of the monotonic clock."""
        if self.is_suspected() and to_s >= time.monotonic() - MARGIN_S:
            return True
        return any(
            from_s <= ended_s + MARGIN_S and to_s >= began_s - MARGIN_S for began_s, ended_s in self._known
        )
