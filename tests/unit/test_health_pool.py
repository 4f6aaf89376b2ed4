"""The history of the connection pool: what was in use over time, and from where on that is trouble."""

from __future__ import annotations

import time

import pytest

from standfast.health import pool
from standfast.health.document import Finding, PoolSection, ServerConnections
from standfast.health.outages import OutageTimes
from standfast.health.pool import KEPT, PoolHistory
from standfast.health.thresholds import Thresholds
from standfast.postgres.observing import Holder
from standfast.postgres.pool import PoolStatistics

LIMITS = Thresholds(pool_usage=0.8)
SIZE = 10


class Time:
    """A monotonic clock that a test moves on."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Pool:
    """A history of a pool that a test makes up, sampled every 10 s as the service does."""

    def __init__(self, clock: Time) -> None:
        self.clock = clock
        self.is_away = False
        self.active = self.waiting = 0
        self.history = PoolHistory(SIZE, LIMITS, OutageTimes(lambda: self.is_away))
        self.sampled_s = self.changed_s = clock.now_s
        self.held_s = 0.0

    def use(self, active: int, waiting: int = 0) -> None:
        self.pass_time()
        more = max(self.active, active) > self.history.quiet_up_to
        self.active, self.waiting = active, waiting
        if more:
            self.history.on_use(self.clock.now_s, active, waiting)

    def pass_time(self) -> None:
        self.held_s += self.active * (self.clock.now_s - self.changed_s)
        self.changed_s = self.clock.now_s

    def go_on(self, for_s: float) -> None:
        end_s = self.clock.now_s + for_s
        while self.sampled_s + 10 <= end_s:
            self.sampled_s = self.clock.now_s = self.sampled_s + 10
            self.history.sample(self.statistics)
        self.clock.now_s = end_s

    @property
    def statistics(self) -> PoolStatistics:
        self.pass_time()
        holders = tuple(Holder("keys.set", 1.5) for _ in range(self.active))
        return PoolStatistics(
            SIZE, SIZE - self.active, self.active, self.waiting, SIZE, 0, self.held_s, holders
        )

    @property
    def section(self) -> PoolSection:
        return self.history.section(self.statistics, LIMITS)

    @property
    def findings(self) -> list[Finding]:
        return pool.findings(self.section, LIMITS)

    @property
    def codes(self) -> list[tuple[str, str]]:
        return [(one.code, one.level) for one in self.findings]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Pool:
    clock = Time()
    monkeypatch.setattr(time, "monotonic", clock)
    return Pool(clock)


def test_usage_above_the_threshold_that_lasts_is_a_warning(used: Pool) -> None:
    """8 of 10 is what the threshold allows, 9 is above it, and only for a second or more."""
    used.use(8)
    used.go_on(9)
    assert used.codes == []
    used.use(9)
    used.go_on(0.9)
    assert used.codes == [], "a burst"
    used.go_on(0.2)
    assert used.codes == [("pool_usage_high", "warning")]
    assert "POSTGRES_MAX_CONNECTIONS (now 10)" in str(used.findings[0].recommendation)
    assert "longest held by 'keys.set', for 1.5 s" in used.findings[0].message


def test_short_bursts_add_up_and_are_forgotten(used: Pool) -> None:
    """Ten times 150 ms within ten seconds is pressure; half a minute later it is over."""
    for _ in range(10):
        used.use(10)
        used.go_on(0.15)
        used.use(0)
        used.go_on(0.5)
    assert used.codes == [("pool_usage_high", "warning")]
    used.go_on(30)
    assert used.codes == []


def test_a_crowd_that_waits_is_an_error(used: Pool) -> None:
    """Five that wait are not too many, six are; not where connections are just being made."""
    used.use(9, 6)
    used.go_on(3)
    used.use(10, 5)
    used.go_on(3)
    assert [code for code, _ in used.codes] == ["pool_usage_high"]
    used.use(10, 6)
    used.go_on(1.1)
    assert used.codes == [("pool_exhausted", "error"), ("pool_usage_high", "warning")]


def test_what_nobody_samples_is_bounded_too(used: Pool) -> None:
    """Where nothing watches, pressure of long ago is no finding."""
    used.use(10, 8)
    used.clock.now_s += 60
    used.use(0)
    for _ in range(5):
        used.clock.now_s += 15
        used.use(1)
        used.use(0)
    assert used.codes == []


def test_a_connection_held_for_long_without_any_change_is_seen(used: Pool) -> None:
    """Nothing happens for a minute but that everything is taken: the finding stands, with seconds that make sense."""
    used.use(10, 8)
    used.clock.now_s += 60
    assert [code for code, _ in used.codes] == ["pool_exhausted", "pool_usage_high"]
    assert used.section.busy_s <= 20


def test_calls_that_got_no_connection_are_an_error_for_five_minutes(used: Pool) -> None:
    used.history.on_timeout(used.clock.now_s)
    used.go_on(299)
    assert used.codes == [("pool_exhausted", "error")]
    assert used.section.timeouts_5min == 1
    used.go_on(2)
    assert used.codes == []


def test_an_outage_explains_a_pool_that_is_full(used: Pool) -> None:
    """Calls that hang on a server which is away hold their connections: that is told once, by the outage."""
    used.use(10, 8)
    used.go_on(3)
    used.history.on_timeout(used.clock.now_s)
    used.is_away = True
    assert used.codes == []
    used.use(0)
    used.is_away = False
    used.go_on(40)
    used.use(10, 8)
    used.go_on(11)
    assert [code for code, _ in used.codes] == ["pool_exhausted", "pool_usage_high"]


def test_averages_count_time_and_peaks_every_moment(used: Pool) -> None:
    """Half of the time 4 of 10 in use is 20 %; a peak between two samples is not missed."""
    for _ in range(6):
        used.use(4)
        used.go_on(5)
        used.use(9, 3)
        used.use(0)
        used.go_on(5)
    section = used.section
    assert section.average_usage == pytest.approx(0.2)
    assert (section.peak_active, section.peak_usage, section.peak_waiting) == (9, 0.9, 3)
    assert section.usage == 0
    assert [sample.usage for sample in section.recent] == [0.0] * 6
    assert [sample.average_usage for sample in section.recent] == [pytest.approx(0.2)] * 6
    assert {sample.peak_active for sample in section.recent} == {9}


def test_an_hour_is_kept(used: Pool) -> None:
    """360 samples; a peak of more than an hour ago is forgotten."""
    used.use(10, 9)
    used.use(1)
    used.go_on(10)
    used.use(0)
    used.go_on(3_590)
    assert (used.section.samples, used.section.peak_active, used.section.peak_waiting) == (KEPT, 10, 9)
    used.go_on(10)
    assert (used.section.samples, used.section.peak_active, used.section.peak_waiting) == (KEPT, 1, 0)
    assert len(used.section.recent) == 10


def test_a_clock_that_jumps_moves_only_what_is_shown(used: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    used.use(5)
    used.go_on(20)
    monkeypatch.setattr(time, "time", lambda: 5_000_000_000.0)
    section = used.section
    assert [sample.at for sample in section.recent] == [4_999_999_990.0, 5_000_000_000.0]
    assert section.average_usage == pytest.approx(0.5)


def test_a_server_that_is_nearly_full_is_a_warning(used: Pool) -> None:
    used.history.server = ServerConnections(used=89, limit=100)
    assert used.codes == []
    used.history.server = ServerConnections(used=90, limit=100)
    assert used.codes == [("server_connections_high", "warning")]
