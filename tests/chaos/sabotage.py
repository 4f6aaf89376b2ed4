"""What a worker does to itself: dies at a chosen point, runs out of disk, or lives in another time.

Invariant: the product's code has no hooks for any of it; functions are replaced in the worker's process alone.
"""

from __future__ import annotations

import functools
import os
import resource
import signal
import sqlite3
import uuid
from typing import Any

from standfast.postgres import leases
from standfast.postgres.replication import Replication
from standfast.vault import heartbeat, opening, outage, recovery, replicator, upkeep
from standfast.vault.clock import SystemClock
from standfast.vault.storage import files, writing
from standfast.vault.storage.replica import Replica

_armed: dict[str, int] = {}


def arm(point: str, count: int) -> None:
    """Die by SIGKILL when `point` is passed for the `count`-th time from now."""
    _armed[point] = count


def passing(point: str) -> None:
    if point not in _armed:
        return
    _armed[point] -= 1
    if _armed[point] <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


class Connection(sqlite3.Connection):
    """Passes points at each statement, commit and checkpoint of the vault's file."""

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        kind = _kind_of(sql)
        if kind is None:
            return super().execute(sql, *args)
        passing(f"{kind}-before")
        cursor = super().execute(sql, *args)
        passing(f"{kind}-after")
        return cursor

    def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
        cursor = super().executemany(sql, *args)
        passing("statement-after")
        return cursor

    def commit(self) -> None:
        passing("commit-before")
        super().commit()
        passing("commit-after")


def _kind_of(sql: str) -> str | None:
    begin = sql.lstrip()[:24].lower()
    if begin.startswith("commit"):
        return "commit"
    if begin.startswith("pragma wal_checkpoint"):
        return "checkpoint"
    return "statement" if begin.startswith(("insert", "update", "delete", "replace")) else None


def place_points() -> None:
    """Give this process the points of `schedule.KILL_POINTS`. Before the vault is opened."""
    connect = sqlite3.connect

    def watched(*args: Any, **kwargs: Any) -> Any:
        return connect(*args, **{"factory": Connection, **kwargs})

    sqlite3.connect = watched
    for owner, names in (
        (Replication, ("deliver",)),
        (leases.Leases, ("acquire", "heartbeat")),
        (Replica, ("fill", "finish_fill", "quarantine", "set_epoch", "compact")),
    ):
        for name in names:
            _watch(owner, name)


def _watch(owner: type, name: str) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        passing(f"{name}-before")
        result = await original(*args, **kwargs)
        passing(f"{name}-after")
        return result

    setattr(owner, name, watched)


def hasten(tick_s: float) -> None:
    """Time runs faster: every pause of the vault's is a fraction of what it is in service, and its log is short.
    What was written is carried into the tables after one to two times `tick_s`."""
    writing.TICK_S = tick_s
    files.CHECKPOINT_BYTES, files.LOG_BYTES, files.CHECK_S = 128 * 1024, 512 * 1024, 0.01
    heartbeat.INTERVAL_S = 0.1
    heartbeat.SECOND_LOOK_S = 0.03
    heartbeat.LONGEST_BACKOFF_S = 0.2
    opening.PROBE_DEADLINE_S = 0.5
    outage.SUSPECT_LIMIT_S = 0.4
    recovery._RETRY_S = 0.1
    replicator.STUCK_RETRY_S = 0.2
    replicator._AFTER_FAILURE_S = 0.02
    upkeep.TICK_S = 0.1
    _set_default(heartbeat.HeartbeatLoop.__init__, "interval_s", 0.1)
    _set_default(outage.OutageClock.__init__, "suspect_limit_s", 0.4)


def _set_default(function: Any, name: str, value: float) -> None:
    assert name in function.__kwdefaults__, f"{function} has no default for {name}"
    function.__kwdefaults__[name] = value


def become_another_process() -> None:
    """After a fork: what tells processes apart must be this one's own."""
    leases._PROCESS = str(uuid.uuid4())


def limit_files(full: bool) -> None:
    """Let every write beyond a file's first bytes fail, as on a full disk; reading goes on."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 if full else hard, hard))


class JumpingClock(SystemClock):
    """The machine's clock, moved. `boots` counts how often the machine was started anew."""

    def __init__(self, boottime_s: float, wall_s: float, boots: int) -> None:
        super().__init__()
        self.boottime_s, self.wall_s, self.boots = boottime_s, wall_s, boots

    def boottime(self) -> float:
        return super().boottime() + self.boottime_s

    def wall(self) -> float:
        return super().wall() + self.wall_s

    def boot_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{super().boot_id()} {self.boots}"))
