"""Which backups go: of any history of good, bad and unproven ones, on any clock."""

from __future__ import annotations

import time
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from standfast.jobs.backup.catalogue import State
from standfast.jobs.backup.rotation import FUTURE_S, Dated, is_first_of_month, removable

NOON = 1_795_000_000.0 // 86_400 * 86_400 + 43_200
DAY_S = 86_400.0
STATES = st.sampled_from(get_args(State))
KINDS = st.sampled_from([("daily",), ("monthly",), ("daily", "monthly")])
HISTORIES = st.lists(
    st.builds(Dated, st.uuids().map(str), st.floats(NOON - 400 * DAY_S, NOON + 40 * DAY_S), KINDS, STATES),
    unique_by=lambda one: one.name,
    max_size=60,
)


def good(days_ago: float, *kinds: str, state: State = "good") -> Dated:
    return Dated(f"{days_ago:g}{state}", NOON - days_ago * DAY_S, tuple(kinds) or ("daily",), state)  # type: ignore[arg-type]


def day(one: Dated) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(one.at))


def month(one: Dated) -> str:
    return time.strftime("%Y-%m", time.gmtime(one.at))


@given(HISTORIES, st.integers(1, 10), st.integers(1, 6))
def test_what_must_stay_stays(history: list[Dated], keep_daily: int, keep_monthly: int) -> None:
    """The newest good one of each of the last days and months that have one; what is of the future; everything where
    nothing is good. What is left is no more than was asked for, and a second run removes nothing."""
    gone = set(removable(history, keep_daily, keep_monthly, NOON))
    left = [one for one in history if one.name not in gone]
    past = [one for one in history if one.at <= NOON + FUTURE_S]
    assert not gone & {one.name for one in history if one not in past}
    goods = sorted((one for one in past if one.state == "good"), key=lambda one: (-one.at, one.name))
    if not goods:
        assert not gone
        return
    assert goods[0].name not in gone
    for kind, period, count in (("daily", day, keep_daily), ("monthly", month, keep_monthly)):
        of_kind = [one for one in goods if kind in one.kinds]
        wanted = sorted({period(one) for one in of_kind}, reverse=True)[:count]
        for each in wanted:
            assert next(one for one in of_kind if period(one) == each).name not in gone
    assert sum(one in past and one.state == "good" for one in left) <= keep_daily + keep_monthly + 1
    assert removable(left, keep_daily, keep_monthly, NOON) == []


@given(HISTORIES)
def test_bad_ones_push_no_good_one_out(history: list[Dated]) -> None:
    """However many there are, what becomes of the good ones is the same as without them."""
    only_good = [one for one in history if one.state == "good"]
    names = {one.name for one in only_good}
    assert set(removable(history, 7, 4, NOON)) & names == set(removable(only_good, 7, 4, NOON))


def test_a_bad_week_removes_nothing() -> None:
    """Eight bad days after one good: the good one stays, and is the only one that counts."""
    history = [good(8), *(good(n, state="bad") for n in range(8))]
    assert removable(history, 7, 4, NOON) == ["7bad"]  # only the seven newest bad ones are kept for a look
    assert "8good" not in removable(history, 1, 1, NOON)


def test_seven_days_and_four_months() -> None:
    """A year of daily backups, the first of each month also monthly."""
    history = [
        good(n, *(["daily", "monthly"] if day(good(n)).endswith("-01") else ["daily"])) for n in range(365)
    ]
    left = [one for one in history if one.name not in removable(history, 7, 4, NOON)]
    assert [one.at for one in left[:7]] == [NOON - n * DAY_S for n in range(7)]
    assert len({month(one) for one in left if "monthly" in one.kinds}) == 4
    assert len(left) in (10, 11)


def test_a_clock_that_was_set_back_removes_nothing() -> None:
    """What was made before then lies in the future: it neither goes nor stands in the way of new ones."""
    ahead = [good(-n) for n in range(1, 10)]
    assert removable([*ahead, good(0), good(1), good(2)], 2, 1, NOON) == ["2good"]
    assert removable(ahead, 1, 1, NOON) == []


def test_a_clock_that_ran_ahead_removes_only_what_new_days_replace() -> None:
    """Age alone never removes: ten years later the last good ones are still there."""
    history = [good(n) for n in range(3)]
    assert removable(history, 7, 4, NOON + 3_650 * DAY_S) == []


def test_the_first_good_one_of_a_month_is_monthly() -> None:
    """Also where the one of the 1st was bad."""
    assert is_first_of_month([], NOON)
    assert is_first_of_month([good(0, "daily", "monthly", state="bad")], NOON)
    assert not is_first_of_month([good(0, "daily", "monthly")], NOON)
    assert is_first_of_month([good(40, "daily", "monthly")], NOON)
