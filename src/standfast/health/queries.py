"""`QueryMetrics`: how PostgreSQL answers: the last 1,000 calls, and counters of all since the start.

Invariant: taking note of a call costs less than a microsecond and a fixed amount of memory, whatever is called.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from standfast.health.document import Finding, QueryRecord, QuerySection, SlowStatement
from standfast.health.outages import OutageTimes
from standfast.health.statements import average, by_statement, nearest_rank, slow_ones, waited_ms
from standfast.health.thresholds import SLOW_ALERT_COUNT, SLOW_WINDOW_S, Thresholds
from standfast.postgres.failures import next_step_for
from standfast.postgres.observing import ABORTED, CANCELLED, DECLINED, OK, Execution

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KEPT = 1_000
SHOWN = 10
MAX_NAMES = 200
OTHER = "other"
"""Under this name count all statements beyond `MAX_NAMES`."""
_TOGETHER = 128
_SETTLING_S = 2.5  # a call without an answer may be an outage's first sign; by then that is suspected
FAILING_COUNT = 5
FAILING_SHARE = 0.05
_GIVEN_UP = frozenset({CANCELLED, ABORTED})
_ANSWERED = frozenset({OK, DECLINED})
_NO_FAILURE = frozenset({OK, DECLINED}) | _GIVEN_UP
_ACTIVITY = (
    "select pid, pg_blocking_pids(pid), wait_event, now() - query_start, query from pg_stat_activity"
    " where state = 'active'"
)


@dataclass(slots=True)
class Tally:
    """Of one statement since the start. `buckets[i]` counts calls whose duration is at most `BUCKETS_S[i]` and above
    the bound before; the last one those beyond all bounds."""

    count: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    rows: int = 0
    duration_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))


class QueryMetrics:
    """The `QueryObserver` of every database of this process, in their thread. Calls that are slow or fail in an outage
    are kept, and no news of their own."""

    def __init__(self, thresholds: Thresholds | None = None, outages: OutageTimes | None = None) -> None:
        self._slow_s = (thresholds or Thresholds()).slow_s
        self._outages = outages or OutageTimes()
        self._fresh: list[Execution] = []
        self._last: deque[Execution] = deque(maxlen=KEPT)
        self._slow: deque[Execution] = deque(maxlen=KEPT)
        self._failed: deque[Execution] = deque(maxlen=SHOWN)
        self._tallies: dict[str, Tally] = {}

    def on_query(self, execution: Execution) -> None:
        # In each call to PostgreSQL: the rest is done for many at once, which takes a fraction of the time.
        self._fresh.append(execution)
        if len(self._fresh) >= _TOGETHER or execution.outcome is not OK:
            self._digest()

    def tallies(self) -> Mapping[str, Tally]:
        """By statement: at most `MAX_NAMES`, and `OTHER`."""
        self._digest()
        return self._tallies

    def section(self, thresholds: Thresholds) -> QuerySection:
        """What was measured so far. Ask for it every 10 s or so: it also notices when an outage goes on and ends."""
        tallies = self.tallies().values()
        now_s = time.monotonic()
        self._outages.note()
        last, slow = list(self._last), [one for one in list(self._slow) if self._tells(one, now_s)]
        recent = [one for one in last if one.outcome not in _GIVEN_UP and self._tells(one, now_s)]
        causes = Counter(one.outcome for one in recent if one.outcome not in _NO_FAILURE)
        durations = sorted(one.duration_s * 1000 for one in last)
        return QuerySection(
            count=len(last),
            total=sum(tally.count for tally in tallies),
            failed_total=sum(tally.failed for tally in tallies),
            cancelled_total=sum(tally.cancelled for tally in tallies),
            retries_total=sum(tally.retries for tally in tallies),
            success_rate=_success_rate(last),
            average_ms=average(durations),
            p50_ms=nearest_rank(durations, 0.5),
            p95_ms=nearest_rank(durations, 0.95),
            p99_ms=nearest_rank(durations, 0.99),
            max_ms=nearest_rank(durations, 1.0),
            threshold_ms=thresholds.slow_s * 1000,
            slow_5min=len(slow),
            calls_5min=len(recent),
            failed_5min=causes.total(),
            causes_5min=dict(causes.most_common()),
            slow_statements=slow_ones(slow),
            slow=_records(list(self._slow)[-SHOWN:], now_s),
            failed=_records(self._failed, now_s),
            statements=by_statement(last, _NO_FAILURE)[:SHOWN],
        )

    def _digest(self) -> None:
        fresh, self._fresh = self._fresh, []
        self._last.extend(fresh)
        for execution in fresh:
            tally = self._tallies.get(execution.name) or self._new_tally(execution.name)
            tally.count += 1
            tally.duration_s += execution.duration_s
            tally.rows += execution.rows
            tally.retries += execution.retries
            tally.buckets[bisect_left(BUCKETS_S, execution.duration_s)] += 1
            if execution.ran_s > self._slow_s + execution.expected_s:
                self._slow.append(execution)
            if execution.outcome is not OK:
                self._note_trouble(execution, tally)

    def _new_tally(self, name: str) -> Tally:
        return self._tallies.setdefault(name if len(self._tallies) < MAX_NAMES else OTHER, Tally())

    def _note_trouble(self, execution: Execution, tally: Tally) -> None:
        if execution.outcome in _GIVEN_UP:
            tally.cancelled += 1
        elif execution.outcome not in _NO_FAILURE:
            tally.failed += 1
            self._failed.append(execution)
            self._outages.note()

    def _tells(self, one: Execution, now_s: float) -> bool:
        """Whether it is of the last 5 minutes and not of an outage."""
        newest_s = now_s if one.outcome in _ANSWERED else now_s - _SETTLING_S
        if not now_s - SLOW_WINDOW_S <= one.ended_s <= newest_s:
            return False
        return not self._outages.met(one.ended_s - one.duration_s, one.ended_s)


def findings(section: QuerySection, thresholds: Thresholds) -> list[Finding]:
    """What of it an operator should know."""
    return [*_slow(section, thresholds), *_failing(section)]


def _slow(section: QuerySection, thresholds: Thresholds) -> list[Finding]:
    if not section.slow_5min:
        return []
    count = section.slow_5min
    limit_ms = f"{thresholds.slow_s * 1000:g} ms"
    named = _listed(map(_slow_one, section.slow_statements))
    return [
        Finding(
            code="slow_queries",
            section="queries",
            level="error" if count >= SLOW_ALERT_COUNT else "warning",
            message=f"{_counted(count, 'call')} to PostgreSQL took longer than {limit_ms} within 5 minutes: {named}",
            recommendation=(
                f'See what runs and who blocks it: psql -c "{_ACTIVITY}". Where nothing blocks, look at the server\'s '
                "load and disk, and whether an index is missing: standfast migrate --dry-run. If that is how far away "
                f"PostgreSQL is, raise DB_QUERY_LATENCY_THRESHOLD_MS (now {thresholds.slow_s * 1000:g})."
            ),
        )
    ]


def _failing(section: QuerySection) -> list[Finding]:
    failed, calls = section.failed_5min, section.calls_5min
    if failed < FAILING_COUNT or failed <= FAILING_SHARE * calls:
        return []
    causes = _listed(f"{cause} ({count})" for cause, count in section.causes_5min.items())
    advice = next_step_for(next(iter(section.causes_5min)))
    return [
        Finding(
            code="queries_failing",
            section="queries",
            level="error",
            message=f"{failed} of {calls} calls to PostgreSQL failed within 5 minutes: {causes}",
            recommendation=advice or "See PostgreSQL's log; standfast health --verbose shows the calls.",
        )
    ]


def _slow_one(one: SlowStatement) -> str:
    longest = f"{one.max_ms:,.0f} ms"
    return f"{one.name} ({longest})" if one.count == 1 else f"{one.name} ({one.count} times, up to {longest})"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(parts: Iterable[str], limit: int = 3) -> str:
    all_parts = list(parts)
    more = [f"{len(all_parts) - limit} more"] if len(all_parts) > limit else []
    return ", ".join(all_parts[:limit] + more)


def _success_rate(executions: Sequence[Execution]) -> float | None:
    """Of those that nobody gave up."""
    ended = [one for one in executions if one.outcome not in _GIVEN_UP]
    if not ended:
        return None
    return sum(one.outcome in _NO_FAILURE for one in ended) / len(ended)


def _records(executions: Iterable[Execution], now_s: float) -> list[QueryRecord]:
    """With times of the wall clock as it goes now: a jump of it moves them all alike."""
    wall = time.time()
    return [
        QueryRecord(
            at=wall - (now_s - one.ended_s),
            name=one.name,
            duration_ms=one.duration_s * 1000,
            rows=one.rows,
            outcome=one.outcome,
            retries=one.retries,
            waited_ms=waited_ms(one),
        )
        for one in list(executions)
    ]
