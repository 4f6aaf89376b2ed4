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
        self._after: list[Callable[[], None]] = []
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
        self._after.append(then)
        self._schedule()

    async def history(self, since: float, limit: int, known: Iterable[Incident] = ()) -> list[Incident]:
        """Incidents that were reported after `since`, or go on, the newest first; `known` are told as they are."""
        # What is written while the file is read may be missing there, and is no longer in memory afterwards.
        before = dict(self._rows)
        found = {one.id: one for one in await self._read(since, limit)}
        for (table, _), row in (before | self._rows).items():
            if table == "incidents":
                one = msgspec.json.decode(row.body, type=Incident)
                found[one.id] = one
        found |= {one.id: one for one in known}
        wanted = [one for one in found.values() if one.last_at >= since or one.is_open]
        return sorted(wanted, key=lambda one: one.since, reverse=True)[:limit]

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
        if self._file is None and table == "incidents":
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
        if not self._unwritten:
            _call(then)
            return
        batch = [(table, key, self._rows.get((table, key))) for table, key in self._unwritten]
        self._unwritten.clear()
        loop, file = self._loop, self._file
        patience = loop.call_later(PATIENCE_S, _call, then)
        self._writing = self._thread.submit(file.write, batch, self._tidy_before())
        self._writing.add_done_callback(
            lambda future: _in_loop(loop, lambda: self._written(future, batch, then, patience))
        )

    def _written(
        self,
        future: Future[bool],
        batch: list[tuple[str, str, Row | None]],
        then: list[Callable[[], None]],
        patience: asyncio.TimerHandle,
    ) -> None:
        patience.cancel()
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
        reading = asyncio.wrap_future(self._thread.submit(self._file.incidents, since, limit))
        try:
            async with asyncio.timeout(READ_S):
                return await reading
        except (OSError, TimeoutError, sqlite3.Error) as error:
            log.warning("the history of alerts cannot be read", reason=str(error) or type(error).__name__)
            return []

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


def _call(then: list[Callable[[], None]]) -> None:
    called, then[:] = list(then), []
    for one in called:
        one()


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return  # the loop has ended; the next start reads what was written
