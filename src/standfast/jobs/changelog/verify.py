"""Whether the change log is whole: every checksum, every seal that can be opened here, the chain, and what has gaps.

Invariant: a segment that is lost or changed is reported with the span of time that it leaves unknown, and never passed
over; a gap that the log itself tells (a node was killed, its disk was full) is no damage.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, StandfastError
from standfast.jobs.changelog.folder import Dropped, File, Folder, folders
from standfast.jobs.changelog.sealing import Opener
from standfast.jobs.changelog.segment import Header, Place, checksum, open_segment, read_entries
from standfast.settings import Settings


class Problem(msgspec.Struct, omit_defaults=True):
    """Segments `first` to `last` of a node are "missing" or "damaged". What happened between `since` and `until` may be
    unknown (seconds since 1970; None: since the beginning, or until now), of `companies`; None: of any."""

    node: str
    what: str
    first: int
    last: int
    since: float | None = None
    until: float | None = None
    companies: list[str] | None = None
    reason: str = ""

    def __str__(self) -> str:
        which = (
            f"segment {self.first}" if self.first == self.last else f"segments {self.first} to {self.last}"
        )
        since = "the beginning" if self.since is None else _words(self.since)
        until = "now" if self.until is None else _words(self.until)
        whose = "any company" if self.companies is None else f"{len(self.companies)} companies"
        if self.companies is not None and len(self.companies) <= 5:
            whose = ", ".join(self.companies) or "no company"
        return f"{which} of node {self.node}: {self.what}; unknown from {since} until {until}: {whose}"


class Gap(msgspec.Struct):
    """Of a company's state between `since` and `until` only the end is known."""

    node: str
    company: str
    since: float
    until: float


class Verified(msgspec.Struct):
    """`sealed`: segments whose blocks no identity of this machine opens: of these only checksums were compared."""

    problems: list[Problem] = []
    gaps: list[Gap] = []
    segments: int = 0
    bytes: int = 0
    sealed: int = 0
    duration_s: float = 0.0


async def verify(settings: Settings, root: Path | None = None, *, share: float = 1.0) -> Verified:
    """Look at every segment of every node below `root` (the backup directory). Reads all of it, in a thread that uses
    `share` of its time, for a service that has other things to do."""
    return await asyncio.to_thread(
        verify_folders, folders(root or settings.backup_directory), Opener.of(settings), share
    )


def verify_folders(found: list[Folder], opener: Opener, share: float = 1.0) -> Verified:
    began, verified = time.monotonic(), Verified()
    for folder in found:
        _Check(folder, opener, verified, share).run()
    verified.duration_s = round(time.monotonic() - began, 3)
    return verified


@dataclass(slots=True)
class _Check:
    folder: Folder
    opener: Opener
    verified: Verified
    share: float
    known_until: float | None = None  # what the last sound segment says
    previous: bytes = b""  # the checksum of the segment before; empty where it is not known
    open_ended: list[Problem] = field(default_factory=list)  # those after which no sound segment came yet

    def run(self) -> None:
        files, dropped = self.folder.files(), self._dropped()
        before: File | None = None
        for file in files:
            missing = self.folder.missing(before, file, dropped)
            if missing is not None:
                self._missing(*missing, file)
            elif before is not None and before.last + 1 != file.first:
                self.previous = b""  # retention has dropped what was between
            before = file
            for place in self._places(file):
                began = time.perf_counter()
                self._segment(place)
                if self.share < 1.0:
                    time.sleep((time.perf_counter() - began) * (1 / self.share - 1))
        self._end(before)

    def _dropped(self) -> Dropped:
        try:
            return self.folder.dropped()
        except StandfastError as error:
            self._problem("damaged", 0, 0, error.message)
            return Dropped()

    def _missing(self, first: int, last: int, following: File) -> None:
        if begins_a_log(self.folder, following):
            self.previous = b""
            return
        self._problem("missing", first, last)

    def _places(self, file: File) -> list[Place]:
        try:
            return self.folder.places(file)
        except BackupDamaged as error:
            self._problem("damaged", file.first, file.last, error.message)
            return []

    def _segment(self, place: Place) -> None:
        verified = self.verified
        verified.segments += 1
        verified.bytes += place.length
        header: Header | None = None
        try:
            opened = open_segment(place)
            header = opened.header
            digest = checksum(place)
            if self.previous and header.previous != self.previous:
                raise BackupDamaged(f"segment {place.number} does not follow the one before it")
            for company in header.blocks:
                if read_entries(opened, Company(company), self.opener) is None:
                    verified.sealed += 1
                    break
        except BackupDamaged as error:
            companies = None if header is None else sorted(header.blocks)
            self._problem("damaged", place.number, place.number, error.message, companies)
            if header is not None:
                self._until(header.closed_at)
            return
        self._until(header.closed_at)
        self.previous = digest
        for name, block in header.blocks.items():
            verified.gaps += [Gap(self.folder.node, name, since, until) for since, until in block.gaps]

    def _until(self, closed_at: float) -> None:
        for problem in self.open_ended:
            problem.until = closed_at
        self.open_ended = []
        self.known_until = closed_at

    def _problem(
        self, what: str, first: int, last: int, reason: str = "", companies: list[str] | None = None
    ) -> None:
        problem = Problem(self.folder.node, what, first, last, self.known_until, None, companies, reason)
        self.verified.problems.append(problem)
        self.open_ended.append(problem)
        self.previous = b""

    def _end(self, newest: File | None) -> None:
        try:
            ends = self.folder.ends()
        except StandfastError as error:
            self._problem("damaged", 0, 0, error.message)
            return
        last = newest.last if newest is not None else 0
        if ends is not None and ends.last > last:
            self._problem("missing", last + 1 if last else ends.last, ends.last)


def begins_a_log(folder: Folder, file: File) -> bool:
    """Whether a log was begun anew with that file; also where it is damaged, which is told as that."""
    try:
        return not open_segment(folder.places(file)[0]).header.previous
    except BackupDamaged:
        return True


def _words(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
