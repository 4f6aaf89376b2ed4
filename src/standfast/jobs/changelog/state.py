"""A company's state at a past moment, out of the segments of every node that wrote it.

Invariant: what is returned the company really had, by the clock of the node that wrote it; where a segment that may
matter is damaged or missing this raises, and never passes over it.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged
from standfast.jobs.changelog.entries import Entry, Replay
from standfast.jobs.changelog.folder import File, Folder, folders
from standfast.jobs.changelog.sealing import Opener
from standfast.jobs.changelog.segment import Opened, Place, open_segment, read_entries
from standfast.settings import Settings


@dataclass(frozen=True, slots=True)
class CompanyState:
    """`at`: when the last change before the moment was acknowledged, by `node` under `epoch`, as batch `sequence` (of
    the company's history, as `standfast_writers` counts it). `creds` None: there was no auth state then. `gap`: the
    moment lies in a span of which only the end is known; the state is that of its beginning. `is_latest`: no node's log
    has a later change of the company."""

    company: Company
    at: float
    epoch: int
    sequence: int
    node: str
    creds: bytes | None = field(repr=False)
    keys: dict[str, dict[str, bytes]] = field(repr=False)
    gap: tuple[float, float] | None = None
    is_latest: bool = True

    @property
    def key_count(self) -> int:
        return sum(len(ids) for ids in self.keys.values())


async def state_at(settings: Settings, company: Company, at: float | None = None) -> CompanyState | None:
    """The state at `at` (seconds since 1970, to the second; None: the latest); None where no log knows the company at
    that time. Reads `<backup directory>/changes`. `BackupDamaged`, `SettingsError` where an identity is missing."""
    return await asyncio.to_thread(state_within, settings, company, at)


def state_within(settings: Settings, company: Company, at: float | None = None) -> CompanyState | None:
    """As `state_at`; blocks."""
    moment = math.inf if at is None else math.floor(at)
    opener = Opener.of(settings)
    found, has_later = [], False
    for folder in folders(settings.backup_directory):
        walk = _Walk(folder, company, moment, opener)
        state = _of_node(walk)
        found += [] if state is None else [state]
        has_later = has_later or (walk.later() is not None if state is None else not state.is_latest)
    if not found:
        return None
    # A node that was overtaken goes on acknowledging for a while; whoever has the higher epoch owns the company.
    newest = max(found, key=lambda state: (state.epoch, state.sequence))
    return replace(newest, is_latest=at is None or not has_later)


def companies_at(settings: Settings, at: float | None = None) -> list[Company]:
    """Every company that some log may have anything of by then; blocks. `BackupDamaged`."""
    moment = math.inf if at is None else math.floor(at)
    found: set[str] = set()
    for folder in folders(settings.backup_directory):
        for file in folder.files():
            for place in folder.places(file):
                if not folder.is_packed(place):
                    header = open_segment(place).header
                    found.update(name for name, block in header.blocks.items() if block.first_at < moment)
        found.update(folder.packed_companies())
    return [Company(name) for name in sorted(found)]


def _of_node(walk: _Walk) -> CompanyState | None:
    entries = walk.entries()
    if not entries:
        return None
    replay = Replay(walk.company)
    replay.apply(entries)
    last, later = replay.entry, walk.later()
    assert last is not None
    return CompanyState(
        walk.company,
        last.at,
        last.epoch,
        last.last,
        walk.folder.node,
        replay.creds,
        replay.keys,
        later.gap if later is not None else None,
        is_latest=later is None,
    )


@dataclass(frozen=True, slots=True)
class _Later:
    """The next entry after the moment; `gap` where it is a snapshot that does not follow."""

    gap: tuple[float, float] | None


class _Walk:
    """Finds a company's entries before a moment: from there backwards, until a snapshot."""

    def __init__(self, folder: Folder, company: Company, moment: float, opener: Opener) -> None:
        self.folder = folder
        self.company = company
        self._moment = moment
        self._opener = opener
        self._files = folder.files()
        self._dropped = folder.dropped()
        self._last: Place | None = None  # the segment with the last entry before the moment
        self._rest: list[Entry] = []  # what that one has beyond it

    def entries(self) -> list[Entry]:
        """In order, from the newest snapshot on; empty where there is none."""
        taken: list[list[Entry]] = []
        for opened in self._backwards():
            block = opened.header.blocks.get(self.company)
            if block is None or (not taken and block.first_at >= self._moment):
                continue
            entries = self._read(opened)
            if not taken:
                self._last = opened.place
                entries = self._cut(entries)
            start = _start(entries)
            taken.append(entries if start is None else entries[start:])
            if start is not None:
                return [entry for entries in reversed(taken) for entry in entries]
        return []  # older than the oldest snapshot that is kept

    def later(self) -> _Later | None:
        """What comes after the moment; None: nothing."""
        entry = self._rest[0] if self._rest else None
        for opened in self._after(self._last) if entry is None else ():
            if self.company in opened.header.blocks:
                entry = self._read(opened)[0]
                break
        if entry is None:
            return None
        return _Later((entry.since, entry.at) if entry.since else None)

    def _cut(self, entries: list[Entry]) -> list[Entry]:
        """What is before the moment, or before something that is: clocks may have been set back within."""
        end = max(index for index, entry in enumerate(entries) if entry.at < self._moment) + 1
        self._rest = entries[end:]
        return entries[:end]

    def _backwards(self) -> Iterator[Opened]:
        following: File | None = None
        for file in reversed(self._files[: self._begin() + 1]):
            self._check_hole(file, following)
            following = file
            for place in reversed(self._places(file)):
                if not self.folder.lacks(place, self.company):
                    yield self._open(place)
        self._check_hole(None, following)

    def _after(self, last: Place | None) -> Iterator[Opened]:
        number = 0 if last is None else last.number
        for file in self._files:
            if file.last > number:
                for place in self._places(file):
                    if place.number > number and not self.folder.lacks(place, self.company):
                        yield self._open(place)

    def _begin(self) -> int:
        """Everything before the moment is in that file or an earlier one."""
        closed = [file.closed_at for file in self._files]
        if any(later < earlier for earlier, later in pairwise(closed)):
            return len(closed) - 1  # the clock was set back: only the segments themselves tell
        return min(bisect_left(closed, self._moment + 1), len(closed) - 1)

    def _check_hole(self, file: File | None, following: File | None) -> None:
        if following is None:
            return
        missing = self.folder.missing(file, following, self._dropped)
        if missing is not None and self._open(self._places(following)[0]).header.previous:
            raise BackupDamaged(
                f"segments {missing[0]} to {missing[1]} of the change log of node {self.folder.node} are missing",
                next_step=_elsewhere(file, following),
            )

    def _places(self, file: File) -> list[Place]:
        try:
            return self.folder.places(file)
        except BackupDamaged as error:
            raise self._lacking(error, file) from error

    def _open(self, place: Place) -> Opened:
        try:
            return open_segment(place)
        except BackupDamaged as error:
            file = next(file for file in self._files if file.first <= place.number <= file.last)
            raise self._lacking(error, file) from error

    def _lacking(self, error: BackupDamaged, file: File) -> BackupDamaged:
        index = self._files.index(file)
        return BackupDamaged(
            error.message, next_step=_elsewhere(self._files[index - 1] if index else None, file)
        )

    def _read(self, opened: Opened) -> list[Entry]:
        entries = read_entries(opened, self.company, self._opener)
        if entries is None:
            raise BackupDamaged(
                f"segment {opened.place.number} of the change log cannot be opened: no identity on this machine does",
                next_step="Name the file of the age identity with BACKUP_IDENTITY_FILE; segments without recipients "
                "need the file vault/changelog.identity of the state directory that wrote them.",
            )
        return entries


def _start(entries: list[Entry]) -> int | None:
    """Where the newest snapshot, or removal, is among them."""
    found = [index for index, entry in enumerate(entries) if entry.kind in ("snapshot", "removed")]
    return found[-1] if found else None


def _elsewhere(before: File | None, after: File) -> str:
    until = f"a moment before {_words(before.closed_at)} or " if before is not None else ""
    return (
        "Bring it back from a remote ('standfast changelog fetch'), or choose "
        f"{until}one some time after {_words(after.closed_at)}, when the next snapshot was taken; 'standfast changelog "
        "verify' shows the span."
    )


def _words(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
