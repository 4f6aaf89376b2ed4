"""What this machine leaves Standfast: memory, processor, files, disks, and a clock that may jump.

Invariant: a look takes a few milliseconds, and no disk of another machine, which may hang, is asked here.
"""

from __future__ import annotations

import contextlib
import resource
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from standfast.health import cgroup
from standfast.health.document import Disk, Finding, FindingLevel, MachineSection
from standfast.health.event_loop import LoopLag
from standfast.health.thresholds import Thresholds
from standfast.health.words import size, span
from standfast.vault.clock import Clock, SystemClock

MIB, GIB = 2**20, 2**30
LOW_SHARE = 0.1
LOW_BYTES = 2 * GIB
FULL_BYTES = 512 * MIB
MEMORY_LOW_BYTES = 256 * MIB
MEMORY_GONE_BYTES = 64 * MIB
FDS_SHARE = 0.8
HOST_SHARE = 0.9  # of the size at which a host is replaced
DELAY_MS = 250.0
CPU_WINDOW_S = 60.0
JUMP_S = 5.0
JUMP_TOLD_S = 600.0
_CONSEQUENCES = {
    "state": "once it is full no message is sent or taken, and they wait at WhatsApp",
    "database": "once it is full PostgreSQL stops, and sessions go on from the replica",
    "backups": "once it is full no backup can be made",
}


class MachineWatch:
    """`places`: directories on this machine's disks by what lies there ("state", "database"); `look` is to be called
    every ten seconds or so."""

    def __init__(
        self, places: Mapping[str, Path], lag: LoopLag | None = None, clock: Clock | None = None
    ) -> None:
        self._places = dict(places)
        self._lag = lag
        self._clock = clock or SystemClock()
        self._process = psutil.Process()
        self._cpu: deque[tuple[float, float]] = deque()
        self._offset_s = self._clock_offset_s()
        self._jump: tuple[float, float] | None = None  # when, on the boot clock, and how far

    def look(self, hosts: Sequence[Mapping[str, Any]] = (), disks: Iterable[Disk] = ()) -> MachineSection:
        """`hosts` are those of `Member.as_wire`; `disks` were measured elsewhere."""
        self._look_at_clock()
        sizes = [int(host["rss_mb"] * MIB) for host in hosts]
        with self._process.oneshot():
            rss_bytes = self._process.memory_info().rss
            cpu_share = self._cpu_share()
        return MachineSection(
            disks=[*self._disks(), *disks],
            rss_bytes=rss_bytes,
            hosts_rss_bytes=sum(sizes),
            largest_host_bytes=max(sizes, default=0),
            memory_available_bytes=_memory_available_bytes(),
            cpu_share=cpu_share,
            fds=self._process.num_fds(),
            fds_limit=_fds_limit(),
            event_loop_delay_ms=self._lag.delay_ms if self._lag else None,
            clock_jump_s=None if self._jump is None else round(self._jump[1], 1),
        )

    def _disks(self) -> Iterator[Disk]:
        """One line for one file system, under the name of what came first."""
        seen: set[int] = set()
        for what, path in self._places.items():
            with contextlib.suppress(OSError):  # it may not be there yet
                device = path.stat().st_dev
                if device not in seen:
                    seen.add(device)
                    yield disk(what, path)

    def _cpu_share(self) -> float | None:
        now_s, times = self._clock.boottime(), self._process.cpu_times()
        self._cpu.append((now_s, times.user + times.system))
        while len(self._cpu) > 2 and now_s - self._cpu[1][0] >= CPU_WINDOW_S:
            self._cpu.popleft()
        (began_s, before_s), (ended_s, after_s) = self._cpu[0], self._cpu[-1]
        return None if ended_s - began_s < 1 else round((after_s - before_s) / (ended_s - began_s), 4)

    def _clock_offset_s(self) -> float:
        return self._clock.wall() - self._clock.boottime()

    def _look_at_clock(self) -> None:
        now_s, offset_s = self._clock.boottime(), self._clock_offset_s()
        moved_s, self._offset_s = offset_s - self._offset_s, offset_s
        if abs(moved_s) > JUMP_S:
            self._jump = now_s, moved_s
        elif self._jump is not None and now_s - self._jump[0] > JUMP_TOLD_S:
            self._jump = None


def disk(what: str, path: Path) -> Disk:
    """Raises `OSError`."""
    found = psutil.disk_usage(str(path))
    return Disk(what=what, path=str(path), free_bytes=found.free, total_bytes=found.total)


def _memory_available_bytes() -> int:
    machine_bytes = int(psutil.virtual_memory().available)
    group_bytes = cgroup.memory_available_bytes()
    return machine_bytes if group_bytes is None else min(machine_bytes, group_bytes)


def _fds_limit() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if limit == resource.RLIM_INFINITY else limit


def findings(section: MachineSection, thresholds: Thresholds) -> list[Finding]:
    return [
        *(found for one in section.disks for found in _disk(one)),
        *_memory(section, thresholds),
        *_process(section),
        *_clock(section),
    ]


def _disk(one: Disk) -> Iterator[Finding]:
    if one.free_bytes < FULL_BYTES:
        level: FindingLevel = "critical"
    elif one.free_bytes < min(LOW_BYTES, LOW_SHARE * one.total_bytes):
        level = "warning"
    else:
        return
    what = _CONSEQUENCES.get(one.what, "it is nearly full")
    message = f"{size(one.free_bytes)} of {size(one.total_bytes)} are free at {one.path}: {what}"
    step = f"Free space or enlarge the disk; what takes it: du -xhd1 {one.path} | sort -h"
    yield _found("disk_low", level, message, step, subject=one.what)


def _memory(section: MachineSection, thresholds: Thresholds) -> Iterator[Finding]:
    available = section.memory_available_bytes
    if available < MEMORY_LOW_BYTES:
        level: FindingLevel = "error" if available < MEMORY_GONE_BYTES else "warning"
        hosts = f", the Node hosts {size(section.hosts_rss_bytes)}" if section.hosts_rss_bytes else ""
        message = f"{size(available)} of memory are left; the service has {size(section.rss_bytes)}{hosts}"
        step = "Give the machine or the container more memory, or end what else runs there."
        yield _found("memory_low", level, message, step)
    if section.largest_host_bytes > HOST_SHARE * thresholds.host_memory_bytes:
        message = (
            f"a Node host has {size(section.largest_host_bytes)} of the {size(thresholds.host_memory_bytes)} "
            "at which it is replaced"
        )
        step = "Raise STANDFAST_HOST_MEMORY_MB, or lower STANDFAST_SESSIONS_PER_HOST, if that comes often."
        yield _found("host_memory_high", "warning", message, step)


def _process(section: MachineSection) -> Iterator[Finding]:
    if section.fds > FDS_SHARE * section.fds_limit:
        message = f"{section.fds} of {section.fds_limit} files and connections are open"
        step = "Raise the limit: 'ulimit -n 65536' before 'standfast up', LimitNOFILE=65536 in systemd."
        yield _found("fds_high", "warning", message, step)
    delay_ms = section.event_loop_delay_ms
    if delay_ms is not None and delay_ms > DELAY_MS:
        cpu = "" if section.cpu_share is None else f" ({section.cpu_share:.0%} of a core in use)"
        message = f"the service answers {delay_ms:.0f} ms late{cpu}"
        step = "Look at what else uses the processor and the disk: top, iostat; give the service a core."
        yield _found("event_loop_slow", "warning", message, step)


def _clock(section: MachineSection) -> Iterator[Finding]:
    moved_s = section.clock_jump_s
    if moved_s is not None:
        message = (
            f"this machine's clock was set {'forward' if moved_s > 0 else 'back'} by {span(abs(moved_s))}"
        )
        step = "See what sets it: 'timedatectl', the log of chrony or ntpd. Leases and grace do not go by it."
        yield _found("clock_jumped", "warning", message, step)


def _found(code: str, level: FindingLevel, message: str, step: str, *, subject: str | None = None) -> Finding:
    return Finding(
        code=code, section="machine", level=level, message=message, recommendation=step, subject=subject
    )
