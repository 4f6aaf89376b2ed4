"""What health says of the vault, and the history of outages behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import DatabaseUnavailable
from standfast.health.outage_history import OutageHistory
from standfast.health.thresholds import Thresholds
from standfast.health.vault import findings, vault_section
from standfast.vault.outage import OutageClock

AWAY = DatabaseUnavailable("PostgreSQL does not answer", next_step="Start it.", cause="timeout")
STATUS: dict[str, Any] = {
    "state": "online",
    "since_s": 60.0,
    "outage_s": None,
    "cause": None,
    "confirmed_s": 0.4,
    "grace_s": 300.0,
    "durability": "local",
    "journal": {"batches": 0, "bytes": 0},
    "replica": {"bytes": 4096, "companies": 1, "writable": True},
    "quarantine": 0,
    "companies": [],
}
COMPANY: dict[str, Any] = {
    "company": "acme",
    "open": True,
    "lease": "held",
    "replica_age_s": 0.4,
    "unsent_s": 0.0,
    "stuck": None,
}
OUTAGE = {
    "state": "outage",
    "outage_s": 42.0,
    "cause": {"code": "database-unavailable", "message": "refused", "next_step": "Start it."},
}


class Hours:
    """A clock that a test moves; `reboot` starts the machine anew."""

    def __init__(self) -> None:
        self.up_s, self.wall_s, self.boot = 1_000.0, 1_700_000_000.0, "one"

    def boottime(self) -> float:
        return self.up_s

    def wall(self) -> float:
        return self.wall_s

    def boot_id(self) -> str:
        return self.boot

    def passes(self, seconds: float) -> None:
        self.up_s += seconds
        self.wall_s += seconds

    def reboot(self, seconds: float) -> None:
        self.wall_s += seconds
        self.up_s, self.boot = seconds, self.boot + "'"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, []),
        ({"state": "suspect"}, [("suspect", "info")]),
        ({"state": "recovering"}, [("recovering", "info")]),
        (OUTAGE, [("outage", "error")]),
        ({**OUTAGE, "grace_s": None}, [("outage", "error")]),
        ({**OUTAGE, "confirmed_s": 269.0}, [("outage", "error")]),
        ({**OUTAGE, "confirmed_s": 271.0}, [("outage", "critical")]),
        ({**OUTAGE, "confirmed_s": 300.0}, [("grace_expired", "critical")]),
        ({**OUTAGE, "confirmed_s": None}, [("grace_expired", "critical")]),
        ({"replica": {"writable": False}}, [("journal_unwritable", "critical")]),
        ({"companies": [COMPANY | {"stuck": "refused"}]}, [("replication_stuck", "error")]),
        ({"companies": [COMPANY | {"unsent_s": 31.0}]}, [("replication_late", "warning")]),
        (
            {
                "companies": [COMPANY | {"unsent_s": 31.0}],
                "journal": {"batches": 9, "bytes": 2**25},
            },
            [("journal_growing", "warning")],
        ),
        ({**OUTAGE, "companies": [COMPANY | {"unsent_s": 31.0}]}, [("outage", "error")]),
        ({"companies": [COMPANY | {"lease": "fenced"}]}, [("fenced", "warning")]),
        ({"quarantine": 2}, [("quarantine", "warning")]),
        ({"error": "the file is rebuilt"}, [("vault_unreadable", "error")]),
    ],
)
def test_each_trouble_of_the_vault_is_found_at_its_level(
    status: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """Nothing is found where all is well; an outage is worse once no connection opens any more."""
    found = findings(vault_section(STATUS | status), Thresholds())
    assert [(one.code, one.level) for one in found] == expected
    assert all(one.recommendation for one in found if one.level != "info")


def test_a_status_seen_in_a_bad_moment_makes_a_section_all_the_same() -> None:
    """What could not be counted is zero, and the error says why."""
    section = vault_section({"companies": [], "state": "online", "since_s": 1.0, "error": "rebuilt"})
    assert (section.journal_batches, section.error) == (0, "rebuilt")


async def test_an_outage_is_one_entry_with_its_length_its_cause_and_what_was_carried_over(
    tmp_path: Path,
) -> None:
    """It begins with the suspicion and ends when everything has been carried over."""
    hours, carried = Hours(), 5
    clock = OutageClock(hours)
    history = OutageHistory(tmp_path / "outages.json", clock, lambda: carried, hours)
    clock.succeeded()
    clock.failed(AWAY)
    hours.passes(2)
    clock.failed(AWAY)
    hours.passes(58)
    (going_on,) = history.outages()
    assert (going_on.ended, going_on.duration_s, going_on.cause) == (None, 60.0, AWAY.message)
    clock.succeeded()
    hours.passes(1)
    carried = 25
    clock.drained()
    (ended,) = history.outages()
    assert (ended.duration_s, ended.batches) == (61.0, 20)
    assert ended.ended == ended.began + 61
    assert history.of_a_day() == (1, 61.0)
    await history.close()
    clock.close()


def _restarted(tmp_path: Path, hours: Hours) -> tuple[OutageClock, OutageHistory]:
    clock = OutageClock(hours)
    return clock, OutageHistory(tmp_path / "outages.json", clock, clock=hours)


async def _outage(tmp_path: Path, hours: Hours) -> None:
    """A process that ends in the middle of an outage."""
    clock, history = _restarted(tmp_path, hours)
    clock.failed(AWAY)
    clock.failed(AWAY)
    await history.close()
    clock.close()


@pytest.mark.parametrize("between", [Hours.passes, Hours.reboot], ids=["restart", "reboot"])
async def test_an_outage_in_which_the_service_was_started_anew_is_one_outage(
    tmp_path: Path, between: Callable[[Hours, float], None]
) -> None:
    """Whether PostgreSQL is away still or is back when the next process looks, over a reboot too."""
    hours = Hours()
    await _outage(tmp_path, hours)
    between(hours, 100.0)
    await _outage(tmp_path, hours)
    between(hours, 100.0)
    clock, history = _restarted(tmp_path, hours)
    clock.succeeded()
    (one,) = history.outages()
    assert one.ended is not None
    assert one.duration_s == pytest.approx(200, abs=0.5)
    await history.close()
    clock.close()


async def test_only_what_lies_within_a_day_is_summed_up(tmp_path: Path) -> None:
    """An outage that began before counts with its part of the day; clocks that were set back make nothing negative."""
    hours = Hours()
    await _outage(tmp_path, hours)
    hours.passes(86_400.0 + 3_600.0)
    clock, history = _restarted(tmp_path, hours)
    clock.succeeded()
    assert history.of_a_day() == (1, 86_400.0)
    hours.passes(86_000.0)
    assert history.of_a_day()[1] == pytest.approx(400.0)
    hours.wall_s -= 10 * 86_400
    assert history.of_a_day()[1] >= 0
    hours.wall_s += 20 * 86_400
    assert history.of_a_day() == (0, 0.0)
    await history.close()
    clock.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema":1,"outages":[{"began":1,"stamp":"x"}]}'])
async def test_a_damaged_history_begins_anew(tmp_path: Path, content: bytes) -> None:
    """It is shown as empty, and the next outage is written over it."""
    (tmp_path / "outages.json").write_bytes(content)
    hours = Hours()
    clock, history = _restarted(tmp_path, hours)
    assert history.outages() == []
    clock.close()
    await _outage(tmp_path, hours)
    clock, history = _restarted(tmp_path, hours)
    assert len(history.outages()) == 1
    assert (tmp_path / "outages.json").stat().st_mode & 0o777 == 0o600
    clock.close()


async def test_a_disk_that_takes_nothing_changes_nothing_else(tmp_path: Path) -> None:
    """The history goes on in memory."""
    hours = Hours()
    clock = OutageClock(hours)
    history = OutageHistory(tmp_path / "away" / "outages.json", clock, clock=hours)
    clock.failed(AWAY)
    clock.failed(AWAY)
    await asyncio.wait_for(history.close(), 2)
    assert len(history.outages()) == 1
    clock.close()
