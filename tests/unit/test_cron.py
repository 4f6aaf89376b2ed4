"""Times of cron."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from standfast.errors import SettingsError
from standfast.settings import Settings
from standfast.settings.cron import Cron, zone_of

BERLIN, GMT = zone_of("Europe/Berlin"), zone_of("UTC")


def _at(text: str) -> float:
    return datetime.fromisoformat(text + "+00:00").timestamp()


def _times(cron: Cron, after: str, count: int) -> list[str]:
    at, found = _at(after), []
    for _ in range(count):
        later = cron.next(at)
        assert later is not None
        at = later
        found.append(datetime.fromtimestamp(at, UTC).isoformat()[:16])
    return found


def test_an_hour_that_comes_twice_is_due_once() -> None:
    """In autumn 02:30 comes twice: the job is due the first time only."""
    assert _times(Cron("30 2 * * *", BERLIN), "2026-10-24T20:00", 2) == [
        "2026-10-25T00:30",
        "2026-10-26T01:30",
    ]


def test_an_hour_that_is_left_out_is_due_after_it() -> None:
    """In spring 02:30 does not come: the job is due once, as soon as it is over."""
    assert _times(Cron("30 2 * * *", BERLIN), "2026-03-28T20:00", 2) == [
        "2026-03-29T01:30",
        "2026-03-30T00:30",
    ]


def test_every_hour_is_due_in_both() -> None:
    """What is due every hour is due in each of the two."""
    assert _times(Cron("0 * * * *", BERLIN), "2026-10-24T23:30", 3) == [
        "2026-10-25T00:00",
        "2026-10-25T01:00",
        "2026-10-25T02:00",
    ]


def test_weekdays_count_from_sunday_and_both_days_mean_either() -> None:
    """As crontab(5) has it: 0 and 7 are Sunday; a day of the month beside a weekday is due on both."""
    sundays = ["2026-11-22T03:00", "2026-11-29T03:00"]
    assert _times(Cron("0 3 * * 0", GMT), "2026-11-20T00:00", 2) == sundays
    assert _times(Cron("0 3 * * 7", GMT), "2026-11-20T00:00", 2) == sundays
    assert _times(Cron("0 3 1 * SUN", GMT), "2026-11-23T00:00", 3) == [
        "2026-11-29T03:00",
        "2026-12-01T03:00",
        "2026-12-06T03:00",
    ]


def test_the_last_time_is_found_however_long_ago() -> None:
    """The last time of a yearly job is found as that of a daily one, and no later one is taken for it."""
    assert Cron("0 4 29 2 *", GMT).last(_at("2026-11-22T00:00")) == _at("2024-02-29T04:00")
    assert Cron("0 3 * * *", GMT).last(_at("2026-11-22T03:00")) == _at("2026-11-22T03:00")
    assert Cron("0 3 * * *", GMT).last(_at("2026-11-22T02:59")) == _at("2026-11-21T03:00")


@pytest.mark.parametrize(
    "fields", ["* * *", "61 * * * *", "0 3 31 2 *", "0 3 * * someday", "0 3 * * 6-2", "a b c d e"]
)
def test_a_malformed_time_is_refused_with_its_setting(fields: str, tmp_path: Path) -> None:
    """Settings with a time that means nothing are refused when they are loaded, by name."""
    with pytest.raises(SettingsError, match="STANDFAST_BACKUP_CRON"):
        Settings(state_dir=tmp_path, backup_cron=fields)


def test_an_unknown_time_zone_is_refused(tmp_path: Path) -> None:
    """So is a time zone that nobody knows; 'off' is a time like any other."""
    assert Settings(state_dir=tmp_path, backup_cron="off").backup_cron == "off"
    with pytest.raises(SettingsError, match="STANDFAST_TIME_ZONE"):
        Settings(state_dir=tmp_path, time_zone="Europe/Nowhere")
