"""`Channel`: one way out to an operator, and `Note`, what is told over it.

Invariant: a note is complete and JSON-able when it is made; it can be told hours later, by another process, without
asking anybody anything. It holds no secret, because an alert holds none.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from standfast.alert import Level
from standfast.errors import TargetFailed

NoteKind = Literal["raised", "escalated", "resolved", "reminder", "digest", "test"]
LEVELS: tuple[Level, ...] = ("info", "warning", "error", "critical")


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told about one alert. Times in seconds since 1970.

    `kind`: "raised" (new, or an occurrence), "escalated" (worse than was told), "resolved" (it is over), "reminder" (it
    still goes on), "digest" (a sum of alerts or of notes that were not told one by one) and "test".
    `level`: how bad it is now; that of a resolved one is "info". `former_level`: before it got worse, or how bad it was
    before it was resolved. `since`: when the trouble began. `count`: reports that this note stands for, since the last
    note about the same. `duration_s`: how long it went on, once resolved. `subject` is as `Alert.subject`, `company`
    its company where it concerns one. `of`: the kind of the notes that a digest sums up, where they are of one.
    `ends`: the names of the alerts that a "resolved" one ends; its own name is that of what ended them.
    `id` (32 hex digits) stays the same when a delivery is tried again.
    """

    id: str
    kind: NoteKind
    name: str
    level: Level
    message: str
    since: float
    at: float
    node: str
    fingerprint: str
    former_level: Level | None = None
    count: int = 1
    duration_s: float | None = None
    company: str | None = None
    subject: str = ""
    tags: dict[str, str] = {}
    facts: dict[str, Any] = {}
    next_step: str | None = None
    of: NoteKind | None = None
    ends: tuple[str, ...] = ()


class Undelivered(TargetFailed):
    """A channel did not take a note. `permanent`: it will not take any before somebody changes something (a token, a
    chat); `retry_after_s`: when it wants to be asked again, where it said so."""

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        retry_after_s: float | None = None,
        permanent: bool = False,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.retry_after_s = retry_after_s
        self.permanent = permanent


class Channel(Protocol):
    """One way out. `name` is stable and short ("sentry", "telegram", "mailto"); it is shown to operators and what waits
    for the channel is kept under it, so two channels never share one. `level`: what it is told, and above."""

    @property
    def name(self) -> str: ...

    @property
    def level(self) -> Level: ...

    async def deliver(self, note: Note) -> None:
        """Have the note taken. Raises `Undelivered`, whose message holds no secret. It may be cancelled after its
        deadline, and is then asked again: at least once."""
        ...


def at_least(level: Level, minimum: Level) -> bool:
    """Whether `level` is as bad as `minimum`, or worse."""
    return LEVELS.index(level) >= LEVELS.index(minimum)


def worst(*levels: Level) -> Level:
    return max(levels, key=LEVELS.index)
