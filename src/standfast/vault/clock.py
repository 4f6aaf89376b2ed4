"""Clocks that the vault counts on.

Invariant: `boottime` never goes back and runs on through suspend and through every change of the wall clock; two of
its readings are comparable only under the same `boot_id`.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Injected everywhere, so that a test can let an hour pass or set the wall clock."""

    def boottime(self) -> float:
        """Seconds since this machine was started."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, as the machine believes."""
        ...

    def boot_id(self) -> str:
        """What tells this start of the machine from every other."""
        ...


class SystemClock:
    def __init__(self) -> None:
        # Where the kernel tells none, a process cannot trust what another one wrote.
        self._boot_id = _BOOT_ID.read_text("ascii").strip() if _BOOT_ID.exists() else str(uuid.uuid4())

    def boottime(self) -> float:
        return time.clock_gettime(_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    def boot_id(self) -> str:
        return self._boot_id


_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
