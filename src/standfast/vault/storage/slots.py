"""`Slots`: where in the journal's table the next rows go, and which rows there are to be deleted.

A row that is no longer needed is written again rather than deleted: a commit then changes half as many pages.
Invariant: a position is given out once, and again only after the row there was found to be needed no more; one that
is new is above all that ever were in the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from standfast.vault.storage.rows import Entry

KEPT = 256
LARGEST_BYTES = 16 * 1024  # a larger row would keep its pages for small ones


class Slots:
    """For one open file, whose highest position so far is `highest`."""

    def __init__(self, highest: int) -> None:
        self._highest = highest
        self._free: list[int] = []
        self._garbage: deque[int] = deque()

    @property
    def has_garbage(self) -> bool:
        """Whether rows are to be deleted."""
        return bool(self._garbage)

    def take(self) -> int:
        """A position to write to: the one that was given last, whose page is the likeliest to be at hand."""
        if self._free:
            return self._free.pop()
        self._highest += 1
        return self._highest

    def give(self, entries: Iterable[Entry]) -> None:
        """The rows there are needed no more, also when the process dies now."""
        for entry in entries:
            if len(self._free) < KEPT and entry.size <= LARGEST_BYTES:
                self._free.append(entry.position)
            else:
                self._garbage.append(entry.position)

    def garbage(self, limit: int) -> list[int]:
        """At most `limit` rows to delete."""
        return list(islice(self._garbage, limit))

    def deleted(self, count: int) -> None:
        """That many of them are gone."""
        for _ in range(count):
            self._garbage.popleft()
