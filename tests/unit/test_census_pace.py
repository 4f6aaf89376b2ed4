"""When the keys are counted anew."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from standfast.health.census_pace import is_due, keys_now, level_of, next_share
from standfast.health.thresholds import Thresholds
from standfast.postgres.census import Census
from standfast.postgres.estimates import Estimate

THRESHOLDS = Thresholds()
SMALL = Census(
    retention_days=30,
    duration_s=0.01,
    share=1.0,
    keys=1_650,
    own=0,
    ages={},
    types={},
    expired={"session": 20},
    crossing=[],
    companies=[],
    inserted=2_000,
    deleted=350,
)
LARGE = msgspec.structs.replace(SMALL, keys=1_650_000, duration_s=1.0)


def estimate(inserted: int = 2_000, deleted: int = 350, *, keys: int = 0, heap_bytes: int = 0) -> Estimate:
    return Estimate(1, keys, heap_bytes, inserted, deleted, 0, 0)


def test_a_small_table_is_counted_every_five_minutes_and_a_large_one_every_hour() -> None:
    """However it is known that it is large."""
    assert is_due(SMALL, 299, estimate(), THRESHOLDS)
    assert not is_due(SMALL, 200, estimate(), THRESHOLDS)
    for census, now in (
        (LARGE, estimate()),
        (SMALL, estimate(keys=10**6)),
        (SMALL, estimate(heap_bytes=2**30)),
    ):
        assert not is_due(census, 3_300, now, THRESHOLDS)
        assert is_due(census, 3_599, now, THRESHOLDS)


@given(duration_s=st.floats(0, 60), elapsed_s=st.floats(0, 10_000), deleted=st.integers(0, 10**6))
def test_counting_takes_less_than_a_hundredth_of_the_time(
    duration_s: float, elapsed_s: float, deleted: int
) -> None:
    """Whatever happens to the table."""
    census = msgspec.structs.replace(LARGE, duration_s=duration_s, expired={"session": 600})
    if is_due(census, elapsed_s, estimate(deleted=deleted), THRESHOLDS):
        assert duration_s <= elapsed_s / 100


def test_what_may_change_the_verdict_is_counted_earlier() -> None:
    """Keys that passed their limit, keys removed, counters that say nothing any more; a changed retention at once."""
    assert not is_due(LARGE, 901, estimate(), THRESHOLDS)
    passing = msgspec.structs.replace(LARGE, crossing=[(600.0, 80)])
    assert not is_due(passing, 599, estimate(), THRESHOLDS)
    assert is_due(passing, 901, estimate(), THRESHOLDS)
    troubled = msgspec.structs.replace(LARGE, expired={"session": 120})
    assert not is_due(troubled, 901, estimate(deleted=360), THRESHOLDS)
    assert is_due(troubled, 901, estimate(deleted=371), THRESHOLDS)
    assert is_due(LARGE, 901, estimate(inserted=0), THRESHOLDS)
    assert is_due(LARGE, 1, estimate(), Thresholds(retention_days=7))


def test_keys_between_two_counts() -> None:
    """What came and went since; the last count where the server's counters were reset."""
    assert keys_now(SMALL, estimate(2_100, 360)) == 1_740
    assert keys_now(SMALL, estimate(5, 0)) == 1_650
    assert keys_now(SMALL, estimate(2_000, 10**6)) == 0


def test_a_table_that_cannot_be_counted_in_time_is_sampled_as_far_as_can_be() -> None:
    assert next_share(1.0, None) == 0.1
    assert next_share(next_share(0.1, None), None) == 0.01
    assert next_share(0.1, 5.0) == 0.1
    assert next_share(0.1, 1.0) == 1.0


def test_levels_begin_at_the_thresholds() -> None:
    assert [level_of(count, THRESHOLDS) for count in (99, 100, 499, 500)] == [0, 1, 1, 2]
