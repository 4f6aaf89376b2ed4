"""`Storm`: the same for many companies at once is told one by one only at first, then as one digest a minute.

Invariant: of one sort (kind of note, name, level) at most `ONE_BY_ONE` notes and one digest pass in a minute, and each
note passes, is in a digest, or is called back because it is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from standfast.alert import Level
from standfast.alerts.channel import Note

ONE_BY_ONE = 5
WINDOW_S = 60.0
Sort = tuple[str, str, Level, Level | None]


class Held(msgspec.Struct, frozen=True):
    """A note that waits for its digest, and the channels that it is for."""

    note: Note
    channels: tuple[str, ...]


@dataclass(slots=True)
class Digest:
    """What a minute held back; `gone` were over before they were told."""

    held: list[Held]
    gone: int


@dataclass(slots=True)
class _Window:
    began_b: float
    passes: int
    held: dict[str, Held] = field(default_factory=dict)
    gone: int = 0


class Storm:
    """Moments are of the boot clock."""

    def __init__(self) -> None:
        self._windows: dict[Sort, _Window] = {}

    def passes(self, held: Held, now_b: float) -> bool:
        """Whether it is to be told now; otherwise it is kept for the digest."""
        window = self._windows.setdefault(_sort(held.note), _Window(now_b, ONE_BY_ONE))
        if window.passes > 0:
            window.passes -= 1
            return True
        window.held[held.note.fingerprint] = held
        return False

    def keep(self, held: Held, now_b: float) -> None:
        """Take up what an earlier run kept."""
        window = self._windows.setdefault(_sort(held.note), _Window(now_b, 0))
        window.held[held.note.fingerprint] = held

    def call_back(self, fingerprint: str) -> list[Held]:
        """What was kept about this trouble, and is not to be told any more. That an earlier one is over, is."""
        back = []
        for sort, window in self._windows.items():
            if sort[0] == "resolved":
                continue
            held = window.held.pop(fingerprint, None)
            if held is not None:
                window.gone += 1
                back.append(held)
        return back

    def due(self, now_b: float) -> list[Digest]:
        """The digests whose minute is over. Where there was one, the next minute is all digest."""
        digests = []
        for sort, window in list(self._windows.items()):
            if now_b - window.began_b < WINDOW_S:
                continue
            if window.held:
                digests.append(Digest(list(window.held.values()), window.gone))
                self._windows[sort] = _Window(now_b, 0)
            else:
                del self._windows[sort]
        return digests


def _sort(note: Note) -> Sort:
    return (note.kind, note.name, note.level, note.former_level)
