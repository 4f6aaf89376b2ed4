"""Percentiles and summaries of calls to PostgreSQL.

Invariant: every figure is one that was measured or a mean of such; of nothing there is no figure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from standfast.health.document import SlowStatement, StatementSummary
from standfast.postgres.observing import Execution

_ROUNDING = 1e-9  # 0.07 × 100 is a little more than 7


def nearest_rank(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of the ordered values that at least `share` of them do not exceed; None of none."""
    if not ordered:
        return None
    rank = math.ceil(share * len(ordered) - _ROUNDING)
    return ordered[max(0, rank - 1)]


def average(values: Collection[float]) -> float | None:
    """None of none."""
    return math.fsum(values) / len(values) if values else None


def waited_ms(execution: Execution) -> float:
    """The part of it in which it had no connection."""
    return max(0.0, execution.duration_s - execution.ran_s) * 1000


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
        average_waited_ms=average([waited_ms(one) for one in ones]) or 0.0,
    )
