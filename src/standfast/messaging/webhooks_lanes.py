"""`Lanes`: what one webhook is owed, by chat, as far as it is in memory, and when each chat's turn is.

Invariant: of a chat only the oldest delivery is ever handed out, and the next one only after it; memory holds a bounded
number of chats with a bounded number of deliveries each, the rest waits on disk.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from standfast.messaging.deliveries import DeliveryTable, Owed

LANES = 1_000
LANE_ITEMS = 20
PAGE = 200


@dataclass(slots=True, eq=False)
class Lane:
    """One chat. `more`: later ones than `last` may be on disk; `failures` in a row of its first item."""

    company: str
    tag: bytes
    items: deque[Owed] = field(default_factory=deque)
    last: int = 0
    more: bool = False
    failures: int = 0
    resting: bool = False


class Lanes:
    """`settled` holds numbers that are done with and may still stand on disk as owed."""

    def __init__(self, table: DeliveryTable, webhook: str, settled: Iterable[int]) -> None:
        self._table = table
        self._webhook = webhook
        self._settled = settled
        self._lanes: dict[tuple[str, bytes], Lane] = {}
        self._ready: deque[Lane] = deque()
        self._resting: list[tuple[float, int, Lane]] = []
        self._count = itertools.count()
        self._seen = 0
        self._unread = True

    def grown(self) -> None:
        """There may be more on disk."""
        self._unread = True

    def fill(self) -> None:
        """Read what there is room for."""
        while self._unread and len(self._lanes) < LANES:
            page = self._table.page(self._webhook, self._seen, PAGE)
            self._unread = len(page) == PAGE
            for owed in page:
                self._seen = owed.number
                self._take(owed)

    def next_due(self) -> float | None:
        """When the next resting chat has its turn; None where none rests."""
        return self._resting[0][0] if self._resting else None

    def begin(self, now: float) -> Lane | None:
        """A chat whose turn it is; it belongs to the caller until `end` or `rest`."""
        while self._resting and self._resting[0][0] <= now:
            lane = heapq.heappop(self._resting)[2]
            if lane.resting:
                lane.resting = False
                self._ready.append(lane)
        return self._ready.popleft() if self._ready else None

    @property
    def is_ready(self) -> bool:
        return bool(self._ready)

    def done(self, lane: Lane) -> bool:
        """The chat's first is done with; whether there is another."""
        lane.items.popleft()
        lane.failures = 0
        while not lane.items and lane.more:
            self._refill(lane)
        return bool(lane.items)

    def end(self, lane: Lane) -> None:
        """The chat waits for its next turn, or is forgotten where it has nothing."""
        if lane.items:
            self._ready.append(lane)
        elif self._lanes.get((lane.company, lane.tag)) is lane:
            del self._lanes[lane.company, lane.tag]

    def rest(self, lane: Lane, until: float) -> None:
        """Not before then."""
        lane.resting = True
        heapq.heappush(self._resting, (until, next(self._count), lane))

    def wake(self, lanes: Iterable[Lane]) -> None:
        """Those that rest have their turn now."""
        for lane in lanes:
            if lane.resting:
                lane.resting = False
                lane.failures = 0
                self._ready.append(lane)
        self._resting = [entry for entry in self._resting if entry[2].resting]
        heapq.heapify(self._resting)

    def _take(self, owed: Owed) -> None:
        lane = self._lanes.get((owed.company, owed.lane))
        if lane is None:
            if owed.number in self._settled:
                return
            lane = self._lanes[owed.company, owed.lane] = Lane(
                owed.company, owed.lane, failures=owed.attempts
            )
            self._ready.append(lane)
        if owed.number <= lane.last or owed.number in self._settled:
            return
        if lane.more or len(lane.items) >= LANE_ITEMS:
            lane.more = True
            return
        lane.items.append(owed)
        lane.last = owed.number

    def _refill(self, lane: Lane) -> None:
        found = self._table.of_lane(self._webhook, lane.company, lane.tag, lane.last, LANE_ITEMS)
        lane.more = len(found) == LANE_ITEMS
        if found:
            lane.last = found[-1].number
            lane.items.extend(owed for owed in found if owed.number not in self._settled)
