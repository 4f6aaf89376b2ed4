"""What the way back has done, and how long each step took.

Invariant: every company that was looked at stands in it, with what became of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import msgspec

from standfast.jobs.emergency.comparison import Action
from standfast.jobs.progress import Progress


class Timed(msgspec.Struct, frozen=True):
    """A step, and how long it took."""

    step: str
    seconds: float


class BroughtBack(msgspec.Struct, omit_defaults=True):
    """One company. `kept`: where the state lies that was not taken. `session`: what became of it, where one is wanted.
    `error`: why it was not brought back; PostgreSQL's state is as it was."""

    company: str
    action: Action
    keys: int = 0
    kept: str | None = None
    session: str | None = None
    error: str | None = None


class ReturnReport(msgspec.Struct):
    """`is_back`: the node stands on PostgreSQL; else it stands on files as before. `is_confirmed`: PostgreSQL has
    confirmed it, and every journal. `folders`: where the folders are that were used, and stay. `writes_lost`: of what
    was acknowledged while the node stood on files, where nothing was decided for PostgreSQL. `from_folders`: no node
    took part."""

    database: str
    folders: str
    companies: list[BroughtBack]
    steps: list[Timed]
    duration_s: float = 0.0
    is_back: bool = False
    is_confirmed: bool = False
    undecided: list[str] = []
    writes_lost: int = 0
    from_folders: bool = False

    @property
    def ok(self) -> bool:
        return (
            self.is_back
            and self.is_confirmed
            and all(one.error is None and one.session in (None, "open") for one in self.companies)
        )


class Stopwatch:
    """Tells each step to whoever watches, and times it."""

    def __init__(self, progress: Progress) -> None:
        self.steps: list[Timed] = []
        self._progress = progress

    @contextlib.contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[None]:
        """The body is that step."""
        self._progress.step(name, total, unit)
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps.append(Timed(name, round(time.monotonic() - began, 3)))

    @property
    def seconds(self) -> float:
        return round(sum(one.seconds for one in self.steps), 3)
