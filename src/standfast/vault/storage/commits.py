"""`Commits`: every write to the vault's file goes through here, in the order in which it was asked for.

All writes of one turn of the event loop share a commit, and so one fsync. While the disk answers quickly the commit
is made on the loop itself, which costs less than handing it to a thread; otherwise in a thread, and what arrives
meanwhile shares the next. Invariant: a write's future resolves only after the commit that holds it is on the disk;
when a commit fails, so does everything that waits behind it, so that no later write stands without an earlier one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = tuple[int | None, int, int, int, float, int, bytes]
Step = Callable[[sqlite3.Connection], Any]

SLOW_S = 0.002
_PAGE = 4096  # about what a changed row puts into the log, beside large values
_WEIGHT = 0.1  # of the newest commit in the moving measure
_STALL_S = 0.01  # a longer one weighs no more: a single stall says little of the next commit
APPEND = (
    "insert into journal (position, number, first, last, at, size, change) values (?, ?, ?, ?, ?, ?, ?)"
    " on conflict (position) do update set number = excluded.number, first = excluded.first, last = excluded.last,"
    " at = excluded.at, size = excluded.size, change = excluded.change"
)


class Errand(Protocol):
    """What a commit does beside the writes it was made for."""

    def run(self, connection: sqlite3.Connection) -> None:
        """Inside the transaction, perhaps in a thread: touches nothing that the loop changes."""
        ...

    def done(self) -> None:
        """On the loop, once it is durable."""
        ...


@dataclass(slots=True)
class _Write:
    future: asyncio.Future[Any]
    row: Row | None = None
    step: Step | None = None
    done: Callable[[], None] | None = None
    result: Any = None
    error: Exception | None = None


@dataclass(slots=True)
class _Group:
    writes: list[_Write]
    errand: Errand | None
    heavy: bool
    seconds: float = 0.0
    size: int = 0
    error: Exception | None = None


class Commits:
    """`errand_for(idle)` is asked before each commit (`idle`: nobody waits for it). `refuse` makes the error that
    writers get of the one that SQLite gave; `succeeded` is told about how many
    bytes each commit that did not fail has written; True asks for a checkpoint of the rest before the next one. `check`
    is called before each, perhaps in a thread, and raises where nothing may be written."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        errand_for: Callable[[bool], Errand | None],
        refuse: Callable[[Exception], Exception],
        succeeded: Callable[[int], bool],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.seconds = 0.0  # moving measure of what a commit takes
        self._connection = connection
        self._errand_for = errand_for
        self._refuse = refuse
        self._succeeded = succeeded
        self._check = check
        self._waiting: list[_Write] = []
        self._heavy = False
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._checkpoint = False
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for the running one costs a system call
        self._thread: ThreadPoolExecutor | None = None
        self._in_thread: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the connection is free for reading on the loop: no thread uses it."""
        return self._in_thread is None

    def append(self, row: Row, done: Callable[[], None]) -> asyncio.Future[None]:
        """Add a row to the journal; `done` runs on the loop once it is durable, before the future resolves."""
        future = (self._loop or self._find_loop()).create_future()
        self._waiting.append(_Write(future, row, None, done))
        if not self._turn_due:
            self._schedule()
        return future

    def run(
        self,
        step: Step,
        done: Callable[[], None] | None = None,
        *,
        heavy: bool = False,
        patience_s: float = 0.0,
    ) -> asyncio.Future[Any]:
        """Run `step` inside the next transaction; the future is what it returns. Where it raises, it alone is undone.
        With `heavy` the commit is made in a thread. With patience it waits so long for others to share a commit with,
        in their order."""
        future = (self._loop or self._find_loop()).create_future()
        self._waiting.append(_Write(future, None, step, done))
        self._heavy = self._heavy or heavy
        if not self._turn_due:
            if patience_s > 0:
                self._schedule_within(patience_s)
            else:
                self._schedule()
        return future

    def nudge(self) -> None:
        """Make a commit soon though nobody waits: for the errand."""
        if not self._turn_due:
            self._schedule()

    async def idle(self) -> None:
        """Until no thread uses the connection."""
        while self._in_thread is not None:
            await asyncio.shield(self._in_thread)

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._waiting or self._turn_due or self._in_thread is not None:
            self.nudge()
            await self.idle()
            await asyncio.sleep(0)
        self._end_patience()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _schedule(self) -> None:
        self._turn_due = True
        # One turn later: by then every task that this turn woke has asked for what it wants to write.
        (self._loop or self._find_loop()).call_soon(self._turn)

    def _schedule_within(self, patience_s: float) -> None:
        loop = self._loop or self._find_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + patience_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(patience_s, self._patience_ended)

    def _end_patience(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _patience_ended(self) -> None:
        self._timer = None
        if self._waiting and not self._turn_due:
            self._schedule()

    def _find_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _turn(self) -> None:
        if self._in_thread is not None:
            return  # its end begins the next
        self._turn_due = False
        self._end_patience()
        writes, self._waiting = self._waiting, []
        errand = self._errand_for(not writes)
        if not writes and errand is None:
            return
        group = _Group(writes, errand, self._heavy)
        self._heavy = False
        if group.heavy or self.seconds > SLOW_S:
            self._hand_over(group)
        else:
            self._commit(group)
            self._finish(group)

    def _hand_over(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "vault-commit")
        self._in_thread = loop.create_future()
        work = self._thread.submit(self._commit, group)
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._returned, group))

    def _returned(self, group: _Group) -> None:
        ended, self._in_thread = self._in_thread, None
        self._finish(group)
        if ended is not None:
            ended.set_result(None)
        if self._waiting or self._turn_due:
            self._schedule()

    def _commit(self, group: _Group) -> None:
        connection = self._connection
        try:
            self._check()
            if self._checkpoint:
                _carry_log(connection)
            changed = connection.total_changes
            connection.execute("begin immediate")
            if group.errand is not None:
                group.errand.run(connection)
            rows = [write.row for write in group.writes if write.row is not None]
            for row in rows:
                connection.execute(APPEND, row)
            if len(rows) != len(group.writes):
                _run_steps(connection, group.writes)
            began = time.perf_counter()
            connection.execute("commit")
            group.size = _PAGE * (2 + connection.total_changes - changed) + sum(row[5] for row in rows)
            group.seconds = time.perf_counter() - began
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, in words of ours
            group.error = error
            _roll_back(connection)

    def _finish(self, group: _Group) -> None:
        if group.error is not None:
            self._fail(group)
            return
        if not group.heavy:
            self.seconds += _WEIGHT * (min(group.seconds, _STALL_S) - self.seconds)
        if group.errand is not None:
            group.errand.done()
        for write in group.writes:
            if write.error is None and write.done is not None:
                write.done()
            if not write.future.done():
                if write.error is None:
                    write.future.set_result(write.result)
                else:
                    write.future.set_exception(write.error)
        self._checkpoint = self._succeeded(group.size)

    def _fail(self, group: _Group) -> None:
        assert group.error is not None
        writes, self._waiting = group.writes + self._waiting, []
        refusals = [self._refuse(group.error) for _ in writes] or [self._refuse(group.error)]
        for write, refusal in zip(writes, refusals, strict=False):
            if not write.future.done():
                write.future.set_exception(refusal)
                write.future.exception()  # who asked may be gone: nothing is to be said of that


def _carry_log(connection: sqlite3.Connection) -> None:
    # What keeps the log from being carried need not keep a commit from being appended to it.
    with contextlib.suppress(sqlite3.Error):
        connection.execute("pragma wal_checkpoint(passive)").fetchone()


def _run_steps(connection: sqlite3.Connection, writes: list[_Write]) -> None:
    for write in writes:
        if write.step is None:
            continue
        connection.execute("savepoint step")
        try:
            write.result = write.step(connection)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - it is handed to whoever asked for the step
            connection.execute("rollback to step")
            write.error = error
        connection.execute("release step")


def _roll_back(connection: sqlite3.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("rollback")
    except sqlite3.Error:
        return  # SQLite rolls back by itself when an error ends a transaction
