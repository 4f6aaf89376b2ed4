"""What health says of the machine: its disks, memory, files, processor and clock."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from standfast.health import cgroup
from standfast.health.document import Disk, MachineSection
from standfast.health.event_loop import LoopLag
from standfast.health.machine import MachineWatch, findings
from standfast.health.thresholds import Thresholds
from tests.support import until

MIB, GIB = 2**20, 2**30
FINE = MachineSection(
    disks=[],
    rss_bytes=80 * MIB,
    hosts_rss_bytes=0,
    memory_available_bytes=GIB,
    cpu_share=0.1,
    fds=10,
    fds_limit=100,
)


class Hours:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.up_s, self.wall_s = 1_000.0, 1_700_000_000.0

    def boottime(self) -> float:
        return self.up_s

    def wall(self) -> float:
        return self.wall_s

    def boot_id(self) -> str:
        return "one"


def _disk(free_bytes: int, total_bytes: int) -> dict[str, Any]:
    return {"disks": [Disk(what="state", path="/data", free_bytes=free_bytes, total_bytes=total_bytes)]}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        (_disk(3 * GIB, 100 * GIB), []),
        (_disk(GIB, 5 * GIB), []),
        (_disk(GIB, 100 * GIB), [("disk_low", "warning")]),
        (_disk(500 * MIB, GIB), [("disk_low", "critical")]),
        ({"memory_available_bytes": 255 * MIB}, [("memory_low", "warning")]),
        ({"memory_available_bytes": 63 * MIB}, [("memory_low", "error")]),
        ({"largest_host_bytes": 1_900 * MIB}, [("host_memory_high", "warning")]),
        ({"fds": 80}, []),
        ({"fds": 81}, [("fds_high", "warning")]),
        ({"event_loop_delay_ms": 250.0}, []),
        ({"event_loop_delay_ms": 251.0}, [("event_loop_slow", "warning")]),
        ({"clock_jump_s": -3600.0}, [("clock_jumped", "warning")]),
    ],
)
def test_what_is_nearly_used_up_is_found(more: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Each with the limit at which it begins, and what to do about it."""
    found = findings(msgspec.structs.replace(FINE, **more), Thresholds())
    assert [(one.code, one.level) for one in found] == expected
    assert all(one.recommendation for one in found)


def test_a_look_measures_this_very_process(tmp_path: Path) -> None:
    """Figures of the kernel, one line for one disk, and quickly enough for every ten seconds."""
    (tmp_path / "postgres").mkdir()
    places = {"state": tmp_path, "database": tmp_path / "postgres", "gone": tmp_path / "none"}
    hours = Hours()
    watch = MachineWatch(places, clock=hours)
    before = watch.look()
    opened = [os.open(tmp_path, os.O_RDONLY) for _ in range(5)]
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    hours.up_s += 2
    section = watch.look([{"rss_mb": 100.0}, {"rss_mb": 50.0}])
    for fd in opened:
        os.close(fd)
    assert section.fds == before.fds + 5
    assert section.cpu_share is not None
    assert 0.03 < section.cpu_share < 0.5
    assert (section.hosts_rss_bytes, section.largest_host_bytes) == (150 * MIB, 100 * MIB)
    assert [(one.what, one.path) for one in section.disks] == [("state", str(tmp_path))]
    assert 0 < section.disks[0].free_bytes < section.disks[0].total_bytes
    assert section.rss_bytes > 10 * MIB


def test_a_clock_that_is_set_is_told_of_for_ten_minutes(tmp_path: Path) -> None:
    """Either way; a clock that is kept in step is not, nor is a machine that slept."""
    hours = Hours()
    watch = MachineWatch({}, clock=hours)

    def passes(seconds: float, wall_s: float | None = None) -> float | None:
        hours.up_s += seconds
        hours.wall_s += seconds if wall_s is None else wall_s
        return watch.look().clock_jump_s

    assert passes(10) is None
    assert passes(10, 14.9) is None
    assert passes(30_000) is None
    assert passes(10, 10 + 7200) == 7200
    assert passes(599) == 7200
    assert passes(2) is None
    assert passes(10, -3600) == -3610


def _delay_ms(lag: LoopLag) -> float:
    assert lag.delay_ms is not None
    return lag.delay_ms


async def test_the_event_loops_delay_is_what_happens_again_and_again() -> None:
    """Nothing before there are enough looks; one long moment is no delay, and one that is held up always is."""
    lag = LoopLag(interval_s=0.002)
    watching = asyncio.create_task(lag.run())
    assert lag.delay_ms is None
    await until(lambda: lag.delay_ms is not None and len(lag._delays_s) > 40, 5)
    time.sleep(0.1)  # noqa: ASYNC251 - to hold up the loop is what is tried
    await asyncio.sleep(0.01)
    assert _delay_ms(lag) < 80
    for _ in range(12):
        time.sleep(0.02)  # noqa: ASYNC251
        await asyncio.sleep(0.003)
    assert _delay_ms(lag) > 15
    watching.cancel()


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/\n", None),
        ({"a/memory.max": "max"}, "0::/a\n", None),
        (
            {"a/memory.max": "1000", "a/memory.current": "900", "a/memory.stat": "inactive_file 50\nx 1"},
            "0::/a/b\n",
            150,
        ),
        (
            {"memory.max": "1000", "memory.current": "2000", "memory.stat": ""},
            "0::/system.slice/docker-1.scope\n",
            0,
        ),
        (
            {
                "memory/c/memory.limit_in_bytes": "1000",
                "memory/c/memory.usage_in_bytes": "400",
                "memory/c/memory.stat": "total_inactive_file 100",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            "5:devices:/\n4:memory:/c\n0::/\n",
            700,
        ),
    ],
)
def test_the_limit_of_a_container_counts(
    tmp_path: Path, files: dict[str, str], own: str, expected: int | None
) -> None:
    """Versions 2 and 1, the group's own limit or one above it; cache that can be dropped is not in use."""
    for name, content in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(content)
    (tmp_path / "own").write_text(own)
    assert cgroup.memory_available_bytes(tmp_path / "fs", tmp_path / "own") == expected
