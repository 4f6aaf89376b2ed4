"""`Gathering`: what is to be the next segment, company by company.

Invariant: what is gathered of a company follows without a gap what the log has of it, or begins with a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.jobs.changelog.entries import Entry

DAY_S = 86_400.0
SEGMENTS_BETWEEN_SNAPSHOTS = (
    512  # a company that changes all the time: so many are read at most to find its state
)


class Heard(NamedTuple):
    """What the vault told, in its order; `at` is when it did. A change that is None is not known."""

    what: Literal["changed", "snapshot", "claimed", "removed", "replaced", "left"]
    company: Company
    at: float
    epoch: int = 0
    first: int = 0
    last: int = 0
    change: Change | None = None


class Position(msgspec.Struct):
    """How far the log has come with a company. `follows`: what the vault tells next follows it."""

    epoch: int
    last: int
    at: float
    snapshot_at: float
    segments: int = 0
    follows: bool = True

    def wants_snapshot(self, now: float) -> bool:
        """Whether it follows, and its last snapshot has become too old all the same."""
        since_s = now - self.snapshot_at
        return since_s > DAY_S or since_s < -DAY_S or self.segments >= SEGMENTS_BETWEEN_SNAPSHOTS


@dataclass(slots=True)
class Gathering:
    """`due`: companies that need a snapshot before anything more of them is of use."""

    positions: dict[Company, Position] = field(default_factory=dict)
    due: dict[Company, None] = field(default_factory=dict)
    entries: dict[Company, list[Entry]] = field(default_factory=dict)
    size: int = 0
    since: float | None = None  # when the oldest of `entries` was heard

    def take(self, heard: Iterable[Heard]) -> None:
        """In order."""
        sizes: dict[int, tuple[Entry, int]] = {}
        for one in heard:
            entry = self._entry(one)
            if entry is not None:
                self._add(one.company, entry, sizes)
        self.size += sum(entry.size - before for entry, before in sizes.values())

    def closed(self) -> None:
        """What was gathered is a durable segment."""
        for company in self.entries:
            if company in self.positions:
                self.positions[company].segments += 1
        self.entries, self.size, self.since = {}, 0, None

    def lost(self) -> None:
        """What was gathered could not be written and is given up: everything begins anew with snapshots."""
        self.entries, self.size, self.since = {}, 0, None
        self.doubt()

    def doubt(self) -> None:
        """Nothing is sure to follow what the log has."""
        for company, position in self.positions.items():
            position.follows = False
            self.due[company] = None

    def _add(self, company: Company, entry: Entry, sizes: dict[int, tuple[Entry, int]]) -> None:
        its = self.entries.setdefault(company, [])
        self.since = entry.at if self.since is None else self.since
        if its and _goes_with(its[-1], entry):
            sizes.setdefault(id(its[-1]), (its[-1], its[-1].size))
            its[-1].merge(entry)
        else:
            its.append(entry)
            sizes[id(entry)] = (entry, 0)

    def _entry(self, one: Heard) -> Entry | None:
        position = self.positions.get(one.company)
        if one.what == "snapshot":
            return self._snapshot(one, position)
        if one.what == "removed":
            self.positions.pop(one.company, None)
            self.due.pop(one.company, None)
            return Entry("removed", one.epoch, one.last, one.last, one.at)
        if one.what == "left":
            self.due.pop(one.company, None)
        if one.what in ("left", "replaced") and position is not None:
            position.follows = False
        if one.what == "replaced" or (one.what == "changed" and not _follows(position, one)):
            self.due[one.company] = None
        if position is None or not position.follows or one.what in ("left", "replaced"):
            return None
        return self._next(one, position)

    def _next(self, one: Heard, position: Position) -> Entry | None:
        if one.what == "claimed":
            if one.epoch == position.epoch:
                return None
            position.epoch = one.epoch
            return Entry("claim", one.epoch, position.last, position.last, one.at)
        if not _follows(position, one):
            position.follows = False
            return None
        position.epoch, position.last, position.at = one.epoch, one.last, one.at
        change = one.change
        assert change is not None, "without it nothing follows"
        return Entry(
            "change", one.epoch, one.first, one.last, one.at, change.cleared, change.creds, change.keys
        )

    def _snapshot(self, one: Heard, position: Position | None) -> Entry:
        since: float | None = 0.0 if position is None else position.at
        if position is not None and position.follows and position.last == one.last:
            since = None
        self.positions[one.company] = Position(one.epoch, one.last, one.at, one.at)
        self.due.pop(one.company, None)
        change = one.change or Change()
        return Entry(
            "snapshot", one.epoch, one.last, one.last, one.at, True, change.creds, change.keys, since
        )


def _follows(position: Position | None, one: Heard) -> bool:
    if one.change is None or position is None or not position.follows:
        return False
    return one.first == position.last + 1


def _goes_with(entry: Entry, later: Entry) -> bool:
    """Whether both are changes of one second: to no finer moment is a state had back."""
    if entry.kind != "change" or later.kind != "change" or entry.epoch != later.epoch:
        return False
    return int(entry.at) == int(later.at) and entry.last + 1 == later.first
