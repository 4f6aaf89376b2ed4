"""Which backups lie in the directory of backups, and how old the newest is.

Invariant: nobody waits for a directory that hangs: it is looked at in a thread of its own, one at a time, and what is
not known within two seconds counts as unreadable.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standfast.health import copies
from standfast.health.copies import Copied
from standfast.health.document import BackupSection, Disk, Finding, FindingLevel
from standfast.health.machine import disk
from standfast.health.thresholds import Thresholds
from standfast.health.words import size, span

TIMEOUT_S = 2.0
LOOK_INTERVAL_S = 60.0
DEPTH = 2
FILES = 20_000
UNPROVEN_S = 40 * 86_400.0
_NAMED = 3
_OTHERS = frozenset({"changes"})  # of ours, beside the backups, and written all the time
_UNFINISHED = (".new", ".part", ".partial", ".tmp")


@dataclass(frozen=True, slots=True)
class Found:
    """Newest of those that count: with a catalogue (`catalogued`) the good ones, otherwise any file. `bad`: names of
    those that were found bad; `unproven`: nobody has looked into them yet; `good`: the good ones, newest first."""

    count: int
    newest_at: float | None
    newest_bytes: int | None
    disk: Disk | None
    catalogued: bool = False
    bad: tuple[str, ...] = ()
    unproven: int = 0
    validated_at: float | None = None
    proven_at: float | None = None
    good: tuple[Copied, ...] = ()


class BackupWatch:
    """`look` is to be called every ten seconds or so; it does so once a minute. `named`: an operator has said where
    backups lie, and so expects some there. `beside`: what lies on the same disk is measured there already."""

    def __init__(
        self,
        root: Path,
        *,
        named: bool,
        beside: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        wall: Callable[[], float] = time.time,
        scan: Callable[[Path, Path | None], Found] | None = None,
    ) -> None:
        self._root = root
        self._named = named
        self._beside = beside
        self._timeout_s = timeout_s
        self._wall = wall
        self._scan = scan or scanned
        self._looking: asyncio.Future[Found | Exception] | None = None
        self._looked_at: float | None = None
        self._found: Found | None = None
        self._error: str | None = None

    async def look(self) -> None:
        """Takes two seconds at most."""
        now_s = time.monotonic()
        if self._looked_at is not None and now_s - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = now_s
        if self._looking is None or self._looking.done():
            self._looking = _in_thread(lambda: self._scan(self._root, self._beside))
        await asyncio.wait({self._looking}, timeout=self._timeout_s)
        if not self._looking.done():
            self._error = f"{self._root} did not answer within {self._timeout_s:g} s"
            return
        outcome = self._looking.result()
        if isinstance(outcome, FileNotFoundError) and not self._named:
            outcome = Found(0, None, None, None)
        if isinstance(outcome, Exception):
            self._error = _words(outcome, self._root)
        else:
            self._error, self._found = None, outcome

    def hurry(self) -> None:
        """What lies there has changed: the next `look` looks."""
        self._looked_at = None

    @property
    def good(self) -> tuple[Copied, ...] | None:
        """None where it is not known which there are."""
        return self._found.good if self._found is not None and self._error is None else None

    @property
    def disk(self) -> Disk | None:
        """The disk on which backups lie; None where it is not known."""
        return self._found.disk if self._found is not None and self._error is None else None

    def section(self, thresholds: Thresholds) -> BackupSection | None:
        """None before the first look."""
        found, root = self._found, str(self._root)
        if found is None and self._error is None:
            return None
        if self._error is not None or found is None:
            return BackupSection(state="unreadable", root=root, named=self._named, error=self._error)
        if found.newest_at is None:
            return BackupSection(state="none", root=root, named=self._named, **_told(found))
        age_s = max(0.0, self._wall() - found.newest_at)
        return BackupSection(
            state="old" if age_s > thresholds.backup_max_age_s else "ok",
            root=root,
            named=self._named,
            newest_at=round(found.newest_at, 3),
            newest_age_s=round(age_s, 1),
            newest_bytes=found.newest_bytes,
            **_told(found),
        )


CHANGE_LOG = "changes"  # lies beside the backups, and is none


def _told(found: Found) -> dict[str, Any]:
    return {
        "count": found.count,
        "catalogued": found.catalogued,
        "bad": list(found.bad),
        "unproven": found.unproven,
        "validated_at": found.validated_at,
        "proven_at": found.proven_at,
    }


def scanned(root: Path, beside: Path | None = None) -> Found:
    """Raises `OSError`."""
    count, newest_at, newest_bytes = 0, None, None
    for modified_at, size_bytes in _files(root):
        count += 1
        if newest_at is None or modified_at > newest_at:
            newest_at, newest_bytes = modified_at, size_bytes
    return Found(count, newest_at, newest_bytes, disk_apart(root, beside))


def disk_apart(root: Path, beside: Path | None) -> Disk | None:
    """The disk on which `root` lies, unless `beside` lies there too. Raises `OSError`."""
    is_elsewhere = beside is None or root.stat().st_dev != beside.stat().st_dev
    return disk("backups", root) if is_elsewhere else None


def _files(root: Path) -> Iterator[tuple[float, int]]:
    """Time and size of what may be a backup: whole, regular, not empty, not hidden."""
    left, pending = FILES, [(root, 0)]
    while pending:
        directory, depth = pending.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return
                if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED) or entry.name in _OTHERS:
                    continue
                if depth == 0 and entry.name == CHANGE_LOG:
                    continue
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and depth < DEPTH:
                    pending.append((Path(entry.path), depth + 1))
                elif stat.S_ISREG(found.st_mode) and found.st_size > 0:
                    yield found.st_mtime, found.st_size


def _in_thread(work: Callable[[], Found]) -> asyncio.Future[Found | Exception]:
    """A thread that may hang for ever: it must keep neither other threads' work nor the end of the process waiting."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Found | Exception] = loop.create_future()

    def run() -> None:
        outcome: Found | Exception
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001 - it is told to who waits
            outcome = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(future.set_result, outcome)

    threading.Thread(target=run, name="backups", daemon=True).start()
    return future


def _words(error: Exception, root: Path) -> str:
    reason = error.strerror if isinstance(error, OSError) else type(error).__name__
    return f"{root} cannot be read: {reason}"


def findings(section: BackupSection, thresholds: Thresholds) -> list[Finding]:
    """`section` with what a service knows, where one is asked."""
    return [*_of_age(section, thresholds), *_of_proof(section), *copies.findings(section, time.time())]


def _of_age(section: BackupSection, thresholds: Thresholds) -> Iterator[Finding]:
    if section.state == "unreadable":
        message = f"backups cannot be looked at: {section.error}"
        yield _found("backup_unreadable", "warning", message, f"Look at it: ls -ld {section.root}")
    elif section.state == "none":
        level: FindingLevel = "warning" if section.named or section.catalogued else "info"
        kind = "good backup" if section.catalogued else "backup"
        step = "Make one: standfast backup run. The schedule does it each day: standfast schedule"
        if section.unproven:
            step = "Look into those that are there: standfast backup validate --all"
        yield _found("backup_none", level, f"no {kind} was found in {section.root}", step)
    elif section.state == "old":
        age, limit = span(section.newest_age_s or 0), span(thresholds.backup_max_age_s)
        kind = "good backup" if section.catalogued else "backup"
        message = (
            f"the newest {kind} is {age} old ({size(section.newest_bytes or 0)}); expected: {limit} at most"
        )
        step = (
            "Make one now: standfast backup run. See why none was made: standfast schedule, standfast alerts"
        )
        yield _found("backup_old", "warning", message, step)


def _of_proof(section: BackupSection) -> Iterator[Finding]:
    if section.bad:
        message = f"{counted(section.bad)} cannot be restored from: {', '.join(section.bad[:_NAMED])}"
        step = f"See why: standfast backup show {section.bad[0]}; make another: standfast backup run"
        yield _found("backups_bad", "info", message, step)
    if not section.catalogued or section.newest_at is None:
        return
    step = "Restore one for a test: standfast backup restore-test"
    if section.proven_at is None:
        yield _found("backup_unproven", "info", "no backup was ever restored for a test", step)
    elif section.newest_at - section.proven_at > UNPROVEN_S:
        age = span(section.newest_at - section.proven_at)
        message = f"the last restore test that passed was made {age} before the newest backup"
        yield _found("backup_unproven", "warning", message, step)


def counted(names: Sequence[str]) -> str:
    """How many backups, in words."""
    return "one backup" if len(names) == 1 else f"{len(names)} backups"


def _found(code: str, level: FindingLevel, message: str, step: str) -> Finding:
    return Finding(code=code, section="backups", level=level, message=message, recommendation=step)
