"""Percentiles, summaries and counters of calls to PostgreSQL.

Invariant: every figure is one that was measured or a mean of such; of nothing there is no figure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from standfast.health.document import SlowStatement, StatementSummary
from standfast.postgres.observing import Execution

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROUNDING = 1e-9  # 0.07 × 100 is a little more than 7


@dataclass(slots=True)
class Tally:
    """Of one statement since the start. `buckets[i]` counts calls whose duration is at most `bounds_s[i]` and above the
    bound before; the last one those beyond all bounds."""

    name: str
    count: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    rows: int = 0
    sum_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    @property
    def bounds_s(self) -> Sequence[float]:
        return BUCKETS_S

    @property
    def cumulative(self) -> Sequence[int]:
        """How many took at most each bound; and in the end, how many there were."""
        return list(accumulate(self.buckets))


def nearest_rank(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of the ordered values that at least `share` of them do not exceed; None of none."""
    if not ordered:
        return None
    rank = math.ceil(share * len(ordered) - _ROUNDING)
    return ordered[max(0, rank - 1)]


def average(values: Collection[float]) -> float | None:
    """None of none."""
    return math.fsum(values) / len(values) if values else None


def by_statement(executions: Iterable[Execution], no_failure: Collection[str]) -> list[StatementSummary]:
    """One of each name; those that took most time in all come first."""
    named: dict[str, list[Execution]] = {}
    for one in executions:
        named.setdefault(one.name, []).append(one)
    ordered = sorted(named.items(), key=lambda item: -sum(one.duration_s for one in item[1]))
    return [_summary(name, ones, no_failure) for name, ones in ordered]


def slow_ones(executions: Iterable[Execution]) -> list[SlowStatement]:
    """One of each name; the one that was slow most often comes first."""
    named: dict[str, list[float]] = {}
    for one in executions:
        named.setdefault(one.name, []).append(one.ran_s * 1000)
    found = [SlowStatement(name=name, count=len(ran), max_ms=max(ran)) for name, ran in named.items()]
    return sorted(found, key=lambda one: (-one.count, -one.max_ms))


def _summary(name: str, ones: Sequence[Execution], no_failure: Collection[str]) -> StatementSummary:
    durations = sorted(one.duration_s * 1000 for one in ones)
    return StatementSummary(
        name=name,
        count=len(ones),
        average_ms=average(durations) or 0.0,
        p95_ms=nearest_rank(durations, 0.95) or 0.0,
        failed=sum(one.outcome not in no_failure for one in ones),
    )
