"""The system's clocks."""

from __future__ import annotations

import time

from standfast.vault.clock import SystemClock


def test_boottime_runs_on() -> None:
    """Two readings are never in the wrong order, and the boottime is that of the machine, not of the process."""
    clock = SystemClock()
    first, second = clock.boottime(), clock.boottime()
    assert 0 < first <= second
    assert abs(clock.boottime() - SystemClock().boottime()) < 1
    assert clock.boottime() >= time.monotonic() - 1


def test_all_clocks_of_one_start_of_the_machine_agree_on_it() -> None:
    one, two = SystemClock(), SystemClock()
    assert one.boot_id() == two.boot_id()
    assert len(one.boot_id()) == 36


def test_wall_is_the_wall_clock() -> None:
    assert abs(SystemClock().wall() - time.time()) < 1
