"""`Rows`: where a company's batches lie in the journal's table, oldest first.

An index in the file would change two more pages at each commit; this costs 32 bytes of memory a batch and one look
through the journal at opening. Invariant: it names the rows whose commit is done, and no other.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

_SHIFT_AT = 1_024


@dataclass(frozen=True, slots=True)
class Entry:
    """A row at `position` that ends with the sequence `last`, takes `size` bytes and was written at `at`."""

    position: int
    last: int
    size: int
    at: float


class Rows:
    """One company's."""

    __slots__ = ("_at", "_head", "_last", "_position", "_size", "size")

    def __init__(self) -> None:
        self._position, self._last, self._size, self._at = array("q"), array("q"), array("q"), array("d")
        self._head = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._last) - self._head

    @property
    def since(self) -> float | None:
        """When the oldest was written; None: there is none."""
        return self._at[self._head] if len(self) else None

    @property
    def last(self) -> int:
        """Where the newest ends; 0: there is none."""
        return self._last[-1] if len(self) else 0

    def add(self, entry: Entry) -> None:
        """The newest."""
        self._position.append(entry.position)
        self._last.append(entry.last)
        self._size.append(entry.size)
        self._at.append(entry.at)
        self.size += entry.size

    def behind(self, after: int) -> Iterator[int]:
        """The positions of those that end behind `after`."""
        begin = bisect_right(self._last, after, self._head)
        for index in range(begin, len(self._last)):
            yield self._position[index]

    def oldest(self, upto: int, limit: int) -> list[Entry]:
        """At most `limit` that end at `upto` or before."""
        end = min(bisect_right(self._last, upto, self._head), self._head + limit)
        return [self._entry(index) for index in range(self._head, end)]

    def drop(self, count: int) -> None:
        """The `count` oldest are no longer needed."""
        self.size -= sum(self._size[self._head : self._head + count])
        self._head += count
        if self._head >= _SHIFT_AT and 2 * self._head > len(self._last):
            self._cut(0, self._head)
            self._head = 0

    def merge(self, entry: Entry, after: int) -> list[Entry]:
        """`entry` stands for all that end behind `after` and not behind it; those."""
        begin = bisect_right(self._last, after, self._head)
        end = bisect_right(self._last, entry.last, begin)
        replaced = [self._entry(index) for index in range(begin, end)]
        self._cut(begin + 1, end)
        self._position[begin], self._size[begin] = entry.position, entry.size
        self._last[begin], self._at[begin] = entry.last, entry.at
        self.size += entry.size - sum(each.size for each in replaced)
        return replaced

    def _entry(self, index: int) -> Entry:
        return Entry(self._position[index], self._last[index], self._size[index], self._at[index])

    def _cut(self, begin: int, end: int) -> None:
        for column in (self._position, self._last, self._size, self._at):
            del column[begin:end]
