"""Metrics of calls: percentiles, counters, what counts as slow or failing, and what an outage explains."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.health import queries
from standfast.health.document import Finding, QuerySection
from standfast.health.outages import OutageTimes
from standfast.health.queries import BUCKETS_S, KEPT, MAX_NAMES, OTHER, QueryMetrics
from standfast.health.statements import nearest_rank
from standfast.health.thresholds import Thresholds
from standfast.postgres.observing import Execution

LIMITS = Thresholds(slow_s=0.5)


class Calls:
    """Metrics, and an outage that a test turns on and off."""

    def __init__(self) -> None:
        self.is_away = self.is_suspected = False
        outages = OutageTimes(lambda: self.is_away, lambda: self.is_suspected)
        self.metrics = QueryMetrics(LIMITS, outages)

    def ran(self, name: str = "keys.get", ran_s: float = 0.01, *, ago_s: float = 0.0, **more: object) -> None:
        call = Execution(name, ended_s=time.monotonic() - ago_s, duration_s=ran_s, ran_s=ran_s)
        for field, value in more.items():
            setattr(call, field, value)
        self.metrics.on_query(call)

    @property
    def section(self) -> QuerySection:
        return self.metrics.section(LIMITS)

    @property
    def findings(self) -> list[Finding]:
        return queries.findings(self.section, LIMITS)

    @property
    def codes(self) -> list[tuple[str, str]]:
        return [(one.code, one.level) for one in self.findings]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    values: Sequence[float], share: float
) -> None:
    """By nearest rank: a value that was measured, with enough values up to it and too few below it."""
    found = nearest_rank(sorted(values), share)
    assert found is not None
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < max(1.0, share * len(values))


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=200))
def test_a_percentile_lies_beside_that_of_the_standard_library(values: Sequence[float]) -> None:
    """The library interpolates between two measured values; ours is one of the two."""
    ordered = sorted(values)
    for percent, theirs in enumerate(statistics.quantiles(values, n=100, method="inclusive"), start=1):
        place = percent * (len(values) - 1) / 100
        ours = nearest_rank(ordered, percent / 100)
        assert ours is not None
        assert ours in (ordered[math.floor(place)], ordered[math.ceil(place)])
        gap = ordered[math.ceil(place)] - ordered[math.floor(place)]
        assert abs(ours - theirs) <= gap + 1e-6


def test_of_nothing_there_are_no_figures(calls: Calls) -> None:
    section = calls.section
    assert (section.count, section.total, section.success_rate, section.p50_ms, section.max_ms) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert calls.codes == []


def test_the_last_thousand_are_kept_and_all_are_counted(calls: Calls) -> None:
    """Percentiles forget what is older than the last 1,000 calls; totals do not."""
    for _ in range(100):
        calls.ran(ran_s=0.4)
    for number in range(1, KEPT + 1):
        calls.ran(ran_s=number / 10_000, rows=2)
    section = calls.section
    assert (section.count, section.total) == (KEPT, KEPT + 100)
    figures = [section.p50_ms, section.p95_ms, section.p99_ms, section.max_ms, section.average_ms]
    assert figures == pytest.approx([50.0, 95.0, 99.0, 100.0, 50.05])
    assert [(one.name, one.count) for one in section.statements] == [("keys.get", KEPT)]


def test_a_slow_call_warns_and_three_are_an_error(calls: Calls) -> None:
    calls.ran("creds.load", 0.5)
    assert calls.codes == []
    calls.ran("creds.load", 0.51)
    assert calls.codes == [("slow_queries", "warning")]
    calls.ran("keys.set", 2.0)
    calls.ran("keys.set", 0.7)
    assert calls.codes == [("slow_queries", "error")]
    (finding,) = calls.findings
    assert "keys.set (2 times, up to 2,000 ms), creds.load (510 ms)" in finding.message
    assert "DB_QUERY_LATENCY_THRESHOLD_MS (now 500)" in str(finding.recommendation)


def test_slow_calls_are_forgotten_after_five_minutes_and_still_shown(calls: Calls) -> None:
    for _ in range(3):
        calls.ran(ran_s=1.0, ago_s=301)
    assert calls.codes == []
    assert calls.section.slow_5min == 0
    assert len(calls.section.slow) == 3


def test_waiting_for_a_connection_is_not_the_statements_fault(calls: Calls) -> None:
    """The pool tells of that; the record shows how long it was."""
    calls.ran(ran_s=0.1, duration_s=3.0)
    calls.ran(ran_s=0.1, duration_s=3.0, outcome="timeout")
    assert calls.codes == []
    assert calls.section.failed[0].waited_ms == pytest.approx(2900)
    (summary,) = calls.section.statements
    assert (summary.average_ms, summary.average_waited_ms) == pytest.approx((3000, 2900))


def test_what_is_long_by_its_nature_is_not_slow(calls: Calls) -> None:
    """A transaction with a limit of its own, a heavy statement, parameters that need their time on the line."""
    calls.ran("statistics", 20.0, expected_s=60.0)
    calls.ran("companies", 4.0, expected_s=math.inf)
    calls.ran("changes.deliver", 1.4, expected_s=1.0)
    assert calls.codes == []
    calls.ran("changes.deliver", 1.6, expected_s=1.0)
    assert calls.codes == [("slow_queries", "warning")]


def test_failures_ring_when_they_are_many_and_a_good_share(calls: Calls) -> None:
    for _ in range(100):
        calls.ran()
    for _ in range(5):
        calls.ran(outcome="timeout", ago_s=3)
    assert calls.codes == [], "5 of 105 are not more than 5 %"
    calls.ran(outcome="schema", ago_s=3)
    assert calls.codes == [("queries_failing", "error")]
    (finding,) = calls.findings
    assert "6 of 106 calls" in finding.message
    assert "timeout (5), schema (1)" in finding.message
    assert "pg_stat_activity" in str(finding.recommendation)


def test_a_few_failures_alone_ring_for_nobody(calls: Calls) -> None:
    for _ in range(4):
        calls.ran(outcome="timeout", ago_s=3)
    assert calls.codes == []


def test_what_was_given_up_or_refused_by_rule_is_no_failure(calls: Calls) -> None:
    """Cancelled and aborted calls count by themselves, and not into the success rate."""
    for outcome in ("cancelled", "aborted", "declined", "ok"):
        for _ in range(5):
            calls.ran(outcome=outcome)
    calls.ran(outcome="timeout", retries=3)
    section = calls.section
    assert (section.total, section.failed_total, section.cancelled_total, section.retries_total) == (
        21,
        1,
        10,
        3,
    )
    assert section.success_rate == pytest.approx(10 / 11)
    assert [one.outcome for one in section.failed] == ["timeout"]


def test_an_outage_explains_what_is_slow_or_fails_around_it(calls: Calls) -> None:
    """What failed just before the outage was known, in it and just after it is no second alarm; what came long before
    is."""
    calls.ran(ran_s=1.0, ago_s=60)
    for _ in range(6):
        calls.ran(ran_s=5.5, outcome="timeout", ago_s=3)
    assert [code for code, _ in calls.codes] == ["slow_queries", "queries_failing"]
    calls.is_away = True
    calls.ran(ran_s=5.5, outcome="timeout")
    calls.is_away = False
    calls.ran(ran_s=5.5, outcome="refused", ago_s=-2)
    assert calls.codes == [("slow_queries", "warning")]
    assert calls.section.failed_total == 8


def test_while_an_outage_is_suspected_nothing_of_now_rings(calls: Calls) -> None:
    """It will be known in a moment; where it was none, what happened rings after all."""
    calls.ran(ran_s=1.0, ago_s=60)
    calls.is_suspected = True
    for _ in range(6):
        calls.ran(ran_s=2.0, outcome="timeout", ago_s=3)
    assert calls.codes == [("slow_queries", "warning")]
    calls.is_suspected = False
    assert calls.codes == [("slow_queries", "error"), ("queries_failing", "error")]


def test_a_call_without_an_answer_is_judged_when_more_is_known(calls: Calls) -> None:
    """Given up or failed just now, it may be the first sign of an outage; an answer that came late is slow at once."""
    calls.ran(ran_s=1.5, outcome="cancelled")
    for _ in range(5):
        calls.ran(ran_s=1.5, outcome="timeout", ago_s=2.4)
    assert calls.codes == []
    calls.ran(ran_s=1.5)
    assert calls.codes == [("slow_queries", "warning")]
    calls.ran(ran_s=1.5, outcome="cancelled", ago_s=2.6)
    assert "keys.get (2 times" in calls.findings[0].message


def test_names_are_bounded(calls: Calls) -> None:
    """A caller that makes up names cannot fill the memory: beyond the bound they count together."""
    for number in range(MAX_NAMES + 50):
        calls.ran(f"made.up.{number}")
    tallies = calls.metrics.tallies()
    assert len(tallies) == MAX_NAMES + 1
    assert tallies[OTHER].count == 50
    assert calls.section.total == MAX_NAMES + 50


def test_durations_fall_into_buckets(calls: Calls) -> None:
    """A bound belongs to its bucket; what is beyond all bounds is counted too."""
    calls.ran(ran_s=0.0005)
    calls.ran(ran_s=BUCKETS_S[1])
    calls.ran(ran_s=100.0, expected_s=600.0)
    tally = calls.metrics.tallies()["keys.get"]
    assert tally.buckets == [1, 1, *[0] * (len(BUCKETS_S) - 2), 1]
    assert tally.duration_s == pytest.approx(100.003)


def test_a_clock_that_jumps_moves_nothing_but_what_is_shown(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ages count on the monotonic clock; shown times follow the wall clock as it goes now."""
    calls.ran(ran_s=1.0, ago_s=10)
    monkeypatch.setattr(time, "time", lambda: 5_000_000_000.0)
    section = calls.section
    assert section.slow_5min == 1
    assert section.slow[0].at == pytest.approx(4_999_999_990.0, abs=1.0)
