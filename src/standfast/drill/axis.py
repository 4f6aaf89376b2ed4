"""The time axis of a drill's picture: a column for each phase.

Invariant: time grows from left to right and evenly within a column; every phase is wide enough for its name, however
short it was beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from standfast.drill.record import DrillRecord, Phase

_NARROWEST = 104.0


@dataclass(frozen=True, slots=True)
class Column:
    """`phase` from `since_s` to `until_s`, drawn from `x` on."""

    phase: Phase | None
    since_s: float
    until_s: float
    x: float
    width: float


class Axis:
    """Seconds of the drill to units of the picture, between `left` and `left + width`."""

    def __init__(self, record: DrillRecord, left: float, width: float) -> None:
        self.left, self.right = left, left + width
        self.columns = _columns(sorted(record.phases, key=lambda one: one.at_s), _end(record), left, width)

    def x(self, at_s: float) -> float:
        """Where that second is; what lies outside of the drill is at its edge."""
        for column in self.columns:
            if at_s <= column.until_s:
                length_s = column.until_s - column.since_s
                part = (at_s - column.since_s) / length_s if length_s > 0 else 0.0
                return column.x + column.width * min(1.0, max(0.0, part))
        return self.right


def _end(record: DrillRecord) -> float:
    ends = [phase.at_s + phase.duration_s for phase in record.phases]
    return max(record.duration_s, *ends, 0.001) if ends else max(record.duration_s, 0.001)


def _columns(phases: Sequence[Phase], end_s: float, left: float, width: float) -> list[Column]:
    if not phases:
        return [Column(None, 0.0, end_s, left, width)]
    # What lies between two phases belongs to the former, what lies before the first to that.
    bounds = [0.0, *(phase.at_s for phase in phases[1:]), end_s]
    narrowest = min(_NARROWEST, width / len(phases))
    spare = width - narrowest * len(phases)
    columns, x = [], left
    for phase, (since_s, until_s) in zip(phases, pairwise(bounds), strict=True):
        wide = narrowest + spare * (until_s - since_s) / end_s
        columns.append(Column(phase, since_s, until_s, x, wide))
        x += wide
    return columns
