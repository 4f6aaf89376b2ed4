"""What programs use of the machine: their memory and their processor time, as the kernel counts it.

Invariant: a process that has ended meanwhile counts nothing; none is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

SETTLE_S = 1.5
COLLECTIONS = 3  # one alone leaves pages that a busy process has not given back yet
COLLECT = Path(__file__).with_name("collect.mjs")


def family(pid: int) -> list[psutil.Process]:
    """A process and everything that it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def resident_mb(processes: Iterable[psutil.Process]) -> float:
    """Their resident memory; what several of them share counts for each."""
    return sum(process.memory_info().rss for process in processes) / 2**20


def proportional_mb(processes: Iterable[psutil.Process]) -> float:
    """Their resident memory; what several share is divided among them: PostgreSQL's processes share most of theirs."""
    return sum(process.memory_full_info().pss for process in processes) / 2**20


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """The processor time that they have used so far."""
    used = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


async def collected(processes: Sequence[psutil.Process]) -> None:
    """Have Node processes that loaded `collect.mjs` collect their garbage, and wait until memory has settled."""
    for _ in range(COLLECTIONS):
        for process in processes:
            if process.name().startswith("node"):
                process.send_signal(signal.SIGUSR2)
        await asyncio.sleep(SETTLE_S)
