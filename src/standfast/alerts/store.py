"""`AlertStore`: what is known of alerts, on disk: troubles, history, what still has to be told.

Invariant: nobody waits for the disk and nothing here raises: what was put is written within a moment by a thread, and
where the disk takes nothing it stays in memory and is written once it does. The file has mode 0600; one that cannot be
read is moved aside, never overwritten.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog

from standfast.alerts.file import HISTORY_S, AlertFile, Row
from standfast.alerts.records import Incident, Trouble
from standfast.alerts.storm import Held
from standfast.vault.clock import Clock

log = structlog.get_logger(__name__)
Key = tuple[str, str]  # table and key
PATIENCE_S = 2.0  # so long what is to be told waits to be written down first
RETRY_S = 15.0
CLOSE_S = 2.0
TIDY_S = 3_600.0
READ_S = 5.0
UNWRITTEN_MAX = 5_000  # incidents; the rest is bounded by what it is


class Waiting(msgspec.Struct, frozen=True):
    """A note that a channel has not taken yet, encoded, and since when (boot clock) it waits."""

    channel: str
    number: int
    note: bytes
    queued_b: float


class _Queued(msgspec.Struct, frozen=True):
    channel: str
    number: int
    note: msgspec.Raw
    queued_b: float


class Kept(msgspec.Struct):
    """What an earlier run left, its moments carried over to this boot clock."""

    troubles: list[Trouble] = []
    held: list[Held] = []
    waiting: list[Waiting] = []


class AlertStore:
    """`open` first. With no directory it only keeps things in memory. `broken` hears why the disk takes nothing,
    and None once it does again."""

    def __init__(
        self, directory: Path | None, clock: Clock, broken: Callable[[str | None], None] = lambda _why: None
    ) -> None:
        self._clock = clock
        self._broken = broken
        self._file = AlertFile(directory) if directory is not None else None
        self._rows: dict[Key, Row] = {}  # as they are to stand; incidents only until they are written
        self._unwritten: dict[Key, None] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing: Future[bool] | None = None
        self._due = False
        self._retry: asyncio.TimerHandle | None = None
        self._after: list[_Once] = []
        self._tidied_b = 0.0
        self.error: str | None = None

    def open(self) -> Kept:
        """Open the file, made where there is none, and read what an earlier run left."""
        self._loop = asyncio.get_running_loop()
        kept = Kept()
        if self._file is None:
            return kept
        self._thread = ThreadPoolExecutor(1, "alerts-file")
        try:
            self._file.open()
            for table, key, row in self._file.rows():
                self._take_up(kept, table, key, row)
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
        return kept

    def keep_trouble(self, trouble: Trouble) -> None:
        self._put("troubles", trouble.fingerprint, trouble)

    def drop_trouble(self, fingerprint: str) -> None:
        self._drop("troubles", fingerprint)

    def keep_incident(self, incident: Incident) -> None:
        self._put("incidents", incident.id, incident, incident.last_at)

    def keep_held(self, held: Held) -> None:
        self._put("held", _held_key(held), held)

    def drop_held(self, held: Held) -> None:
        self._drop("held", _held_key(held))

    def keep_waiting(self, one: Waiting) -> None:
        queued = _Queued(one.channel, one.number, msgspec.Raw(one.note), one.queued_b)
        self._put("waiting", _waiting_key(one), queued)

    def drop_waiting(self, one: Waiting) -> None:
        self._drop("waiting", _waiting_key(one))

    def when_written(self, then: Callable[[], None]) -> None:
        """Call `then` in the loop once all that was put is on the disk; after 2 s also where it is not."""
        if self._file is None or self._loop is None or self.error is not None:
            then()
            return
        # Each has its own patience: behind a write that hangs no other one is begun.
        self._after.append(_Once(then, self._loop))
        self._schedule()

    async def history(
        self, since: float, limit: int, known: Iterable[Incident] = ()
    ) -> tuple[list[Incident], str | None]:
        """Incidents that were reported after `since`, or go on, the newest first; `known` are told as they are. Beside
        them why that is not all, or will not outlive the service."""
        # Before the file is read: what is written meanwhile may be missing there, and is then no longer in memory.
        fresh = [
            msgspec.json.decode(row.body, type=Incident)
            for (table, _), row in self._rows.items()
            if table == "incidents"
        ]
        error, written = self.error, list[Incident]()
        try:
            async with asyncio.timeout(READ_S):
                written = await self._read(since, limit)
        except (OSError, TimeoutError, sqlite3.Error) as failure:
            error = error or f"the history of alerts cannot be read: {str(failure) or type(failure).__name__}"
        found = {one.id: one for one in (*written, *fresh, *known)}
        wanted = [one for one in found.values() if one.last_at >= since or one.is_open]
        return sorted(wanted, key=lambda one: one.since, reverse=True)[:limit], error

    async def close(self) -> None:
        """Write what can be written within 2 s, and give the file back."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_S
        while self._unwritten and self.error is None and loop.time() < deadline:
            self._write()
            if self._writing is None:
                break
            await asyncio.wait({asyncio.wrap_future(self._writing)}, timeout=max(0.0, deadline - loop.time()))
            await asyncio.sleep(0)
        if self._retry is not None:
            self._retry.cancel()
        self._loop = None
        if self._thread is not None and self._file is not None:
            closing = asyncio.wrap_future(self._thread.submit(self._file.close))
            await asyncio.wait({closing}, timeout=max(0.1, deadline - loop.time()))
            self._thread.shutdown(wait=False)

    def _put(self, table: str, key: str, record: msgspec.Struct, at: float | None = None) -> None:
        now = self._clock.wall()
        body = msgspec.json.encode(record, enc_hook=str)
        row = Row(now if at is None else at, self._clock.boot_id(), self._clock.boottime(), now, body)
        self._change(table, key, row)

    def _drop(self, table: str, key: str) -> None:
        if (table, key) in self._rows:
            self._change(table, key, None)

    def _change(self, table: str, key: str, row: Row | None) -> None:
        if len(self._rows) > UNWRITTEN_MAX and table == "incidents":
            self._bound_incidents()
        if row is None:
            del self._rows[table, key]
        else:
            self._rows[table, key] = row
        if self._file is not None:
            self._unwritten[table, key] = None
            self._schedule()

    def _bound_incidents(self) -> None:
        """Where they cannot be written the oldest are forgotten."""
        kept = [key for key in self._rows if key[0] == "incidents"]
        for key in kept[: max(0, len(kept) - UNWRITTEN_MAX)]:
            del self._rows[key]
            self._unwritten.pop(key, None)

    def _schedule(self) -> None:
        if self._loop is not None and not self._due and self._writing is None and self.error is None:
            self._due = True
            # One turn later: what belongs together is then written together.
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._due = False
        if self._writing is not None or self._loop is None or self._thread is None or self._file is None:
            return
        then, self._after = self._after, []
        if not self._unwritten and self.error is None:
            _call(then)
            return
        batch = [(table, key, self._rows.get((table, key))) for table, key in self._unwritten]
        self._unwritten.clear()
        loop, file = self._loop, self._file
        self._writing = self._thread.submit(file.write, batch, self._tidy_before())
        self._writing.add_done_callback(
            lambda future: _in_loop(loop, lambda: self._written(future, batch, then))
        )

    def _written(
        self,
        future: Future[bool],
        batch: list[tuple[str, str, Row | None]],
        then: list[_Once],
    ) -> None:
        self._writing = None
        error = future.exception()
        if error is not None:
            for table, key, _ in batch:
                self._unwritten[table, key] = None
            self._failed(error)
        else:
            self._succeeded(batch, anew=future.result())
        _call(then)
        if self._unwritten or self._after:
            self._schedule()

    def _succeeded(self, batch: list[tuple[str, str, Row | None]], *, anew: bool) -> None:
        for table, key, row in batch:
            if table == "incidents" and self._rows.get((table, key)) is row:
                del self._rows[table, key]
        if anew:
            self._unwritten.update(dict.fromkeys(self._rows))
        if self.error is not None:
            self.error = None
            self._broken(None)

    def _failed(self, error: BaseException) -> None:
        why = f"alerts cannot be kept in {self._file.path if self._file else 'memory'}: {error}"
        self._bound_incidents()
        if self.error is None:
            self.error = why
            self._broken(why)
        then, self._after = self._after, []
        _call(then)
        if self._loop is not None:
            self._retry = self._loop.call_later(RETRY_S, self._write)

    def _tidy_before(self) -> float | None:
        now_b = self._clock.boottime()
        if now_b - self._tidied_b < TIDY_S:
            return None
        self._tidied_b = now_b
        return self._clock.wall() - HISTORY_S

    async def _read(self, since: float, limit: int) -> list[Incident]:
        if self._file is None or self._thread is None:
            return []
        return await asyncio.wrap_future(self._thread.submit(self._file.incidents, since, limit))

    def _take_up(self, kept: Kept, table: str, key: str, row: Row) -> None:
        shift_s = shift_of(row, self._clock)
        try:
            if table == "troubles":
                trouble = msgspec.json.decode(row.body, type=Trouble)
                trouble.shift(shift_s)
                kept.troubles.append(trouble)
            elif table == "held":
                kept.held.append(msgspec.json.decode(row.body, type=Held))
            else:
                one = msgspec.json.decode(row.body, type=_Queued)
                kept.waiting.append(Waiting(one.channel, one.number, bytes(one.note), one.queued_b + shift_s))
        except msgspec.MsgspecError as error:
            log.warning("a kept alert cannot be read and is passed over", table=table, reason=str(error))
            return
        self._rows[table, key] = row


def shift_of(row: Row, clock: Clock) -> float:
    """What to add to moments of the boot clock that `row` was written under. Over a reboot the time that passed is that
    of the wall clock, within bounds: nothing lies in the future, and a clock set forward adds no more than the history
    is long."""
    if row.boot_id == clock.boot_id():
        return 0.0
    passed_s = min(max(0.0, clock.wall() - row.wall), HISTORY_S)
    return clock.boottime() - passed_s - row.boottime


def _held_key(held: Held) -> str:
    return f"{held.note.kind}|{held.note.level}|{held.note.fingerprint}"


def _waiting_key(one: Waiting) -> str:
    return f"{one.channel}|{one.number:012d}"


class _Once:
    """Calls `then` once: when it is called, or after `PATIENCE_S`."""

    def __init__(self, then: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._then: Callable[[], None] | None = then
        self._patience = loop.call_later(PATIENCE_S, self)

    def __call__(self) -> None:
        self._patience.cancel()
        then, self._then = self._then, None
        if then is not None:
            then()


def _call(waiting: list[_Once]) -> None:
    for one in waiting:
        one()


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return  # the loop has ended; the next start reads what was written
