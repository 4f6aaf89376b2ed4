"""`Slots`: where in the journal's table the next rows go.

A row that is no longer needed is overwritten rather than deleted: a commit then changes half as many pages.
Invariant: a position is given out once, and again only after the row there was found to be needed no more; one that
is new is above all that ever were in the file.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable

KEPT = 256
LARGEST_BYTES = 8 * 1024  # a larger row would keep its pages for small ones


class Slots:
    """For one open file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._next: int = connection.execute("select coalesce(max(position), 0) + 1 from journal").fetchone()[
            0
        ]
        self._free: deque[int] = deque()

    @property
    def room(self) -> int:
        """How many more may be kept for later."""
        return KEPT - len(self._free)

    def take(self) -> int:
        """A position to write to."""
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def give(self, positions: Iterable[int]) -> None:
        """The rows there are needed no more."""
        self._free.extend(positions)
