"""The model that the chaos runs are checked against: operations, states, and lines of history.

Invariant: a state is written as text in one form only, the same here, in a worker and in PostgreSQL, so that two
states are equal exactly where their texts are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

KeyName = tuple[str, str]
DOUBTS_MAX = 10


@dataclass(frozen=True, slots=True)
class Operation:
    """One write. Every value is known by the number of the operation that wrote it; None deletes a key."""

    number: int
    keys: Mapping[KeyName, int | None] = field(default_factory=dict)
    creds: int | None = None
    cleared: bool = False


@dataclass(slots=True)
class State:
    """A company's whole auth state; `creds` is None where the company is absent."""

    creds: int | None = None
    keys: dict[KeyName, int] = field(default_factory=dict)

    def copy(self) -> State:
        return State(self.creds, dict(self.keys))

    def apply(self, operation: Operation) -> State:
        """The state after `operation`; this one stays."""
        after = self.copy()
        if operation.cleared:
            after.keys = {}
        for name, number in operation.keys.items():
            if number is None:
                after.keys.pop(name, None)
            else:
                after.keys[name] = number
        if operation.creds is not None:
            after.creds = operation.creds
        return after

    def text(self) -> str:
        creds = "-" if self.creds is None else str(self.creds)
        keys = sorted(f"{key_type}/{key_id}={number}" for (key_type, key_id), number in self.keys.items())
        return " ".join([f"creds={creds}", *keys])

    @classmethod
    def parse(cls, text: str) -> State:
        """The state whose `text` this is."""
        state = cls()
        for part in text.split():
            name, _, number = part.rpartition("=")
            if name != "creds":
                key_type, _, key_id = name.partition("/")
                state.keys[key_type, key_id] = int(number)
            elif number != "-":
                state.creds = int(number)
        return state


class Fate(StrEnum):
    DOUBTFUL = "doubtful"  # asked for, and no answer came
    SURE = "sure"
    ABSENT = "absent"


@dataclass(slots=True)
class Entry:
    operation: Operation
    fate: Fate = Fate.DOUBTFUL


class Line:
    """What one node has written to one company since it took it, on top of the state that it found.

    Doubtful entries may have happened or not, each by itself; a state that somebody reads decides it.
    """

    def __init__(self, base: State) -> None:
        self.base = base
        self.entries: list[Entry] = []
        self.position = 0  # how many entries PostgreSQL has at least
        self.reached = base.text()
        self.forgiven = False  # damage may have taken what PostgreSQL did not have

    def add(self, operation: Operation) -> Entry:
        entry = Entry(operation)
        self.entries.append(entry)
        return entry

    def states(self) -> Iterator[tuple[int, str]]:
        """Every state that a prefix may have left, with how many entries that prefix has."""
        frontier = {self.base.text(): self.base}
        yield from ((0, text) for text in frontier)
        for count, entry in enumerate(self.entries, 1):
            if entry.fate is Fate.ABSENT:
                continue
            after = [state.apply(entry.operation) for state in frontier.values()]
            if entry.fate is Fate.SURE:
                frontier = {}
            frontier.update({state.text(): state for state in after})
            yield from ((count, text) for text in frontier)

    def settle(self, text: str) -> bool:
        """Take `text` for the state after all entries: decides the doubtful ones; False where it cannot be."""
        doubtful = [entry for entry in self.entries if entry.fate is Fate.DOUBTFUL]
        for happened in _choices(len(doubtful)):
            chosen = dict(zip(map(id, doubtful), happened, strict=True))
            state = self.base
            for entry in self.entries:
                if chosen.get(id(entry), entry.fate is Fate.SURE):
                    state = state.apply(entry.operation)
            if state.text() == text:
                for entry, did in zip(doubtful, happened, strict=True):
                    entry.fate = Fate.SURE if did else Fate.ABSENT
                return True
        return False

    def reach(self, text: str) -> bool:
        """PostgreSQL has come to `text`: whether that is a prefix, and not one before where it was."""
        found = [c for c, candidate in self.states() if candidate == text and c >= self.position]
        if found:
            self.position, self.reached = found[0], text
        return bool(found)

    def rewind(self, text: str) -> None:
        """PostgreSQL was put back to `text`, if that was a state of this line."""
        found = [count for count, candidate in self.states() if candidate == text]
        if found:
            self.position, self.reached = min(self.position, found[-1]), text

    @property
    def latest(self) -> int:
        """How many entries PostgreSQL has at most: several prefixes may leave one state."""
        same = (count for count, text in self.states() if text == self.reached and count >= self.position)
        return max(same, default=self.position)

    def owed(self) -> list[Operation]:
        """What was acknowledged and PostgreSQL is not known to have."""
        return [entry.operation for entry in self.entries[self.latest :] if entry.fate is Fate.SURE]

    def tails(self) -> Iterator[tuple[int, str]]:
        """What the coalesced entries from each position on may be, by `change_text`; from the last position back."""
        for start in range(len(self.entries), -1, -1):
            rest = [entry for entry in self.entries[start:] if entry.fate is not Fate.ABSENT]
            doubtful = [entry for entry in rest if entry.fate is Fate.DOUBTFUL]
            for happened in _choices(len(doubtful)):
                left_out = {id(entry) for entry, did in zip(doubtful, happened, strict=True) if not did}
                yield start, change_text(e.operation for e in rest if id(e) not in left_out)


def change_text(operations: Iterable[Operation]) -> str:
    """What several operations in a row do together, in one form."""
    creds: int | None = None
    keys: dict[KeyName, int | None] = {}
    cleared = False
    for operation in operations:
        if operation.cleared:
            keys, cleared = {}, True
        keys.update(operation.keys)
        creds = creds if operation.creds is None else operation.creds
    named = sorted(f"{t}/{i}={'x' if n is None else n}" for (t, i), n in keys.items())
    return " ".join([f"cleared={int(cleared)}", f"creds={'-' if creds is None else creds}", *named])


def _choices(count: int) -> Iterator[tuple[bool, ...]]:
    """Which of `count` doubtful entries happened; those where more of them did come first."""
    assert count <= DOUBTS_MAX, f"{count} operations are in doubt at once: the schedule leaves too much open"
    return itertools.product((True, False), repeat=count)
