"""`ChangeLogKeeper`: hears what happens in the vault and writes it to the change log.

Invariant: the vault never waits for it and never fails because of it; what it could not write is followed by a snapshot
of each company, so that a gap has a beginning and an end that the log itself tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.jobs.changelog import alarms
from standfast.jobs.changelog.folder import CHANGES, Folder
from standfast.jobs.changelog.gathering import Gathering, Heard, Position
from standfast.jobs.changelog.sealing import Sealer
from standfast.jobs.changelog.segment import Place
from standfast.jobs.changelog.writing import SegmentWriter
from standfast.settings import Settings
from standfast.vault.storage.replica import Record, Replica

log = structlog.get_logger(__name__)
SEGMENT_BYTES = 2**20
UNWRITTEN_LIMIT_BYTES = (
    32 * 2**20
)  # kept in memory while the disk takes nothing; then snapshots take their place
SNAPSHOT_SHARE = 0.1  # of the event loop's time, while many are due
RETRY_S = 5.0
NOTE_INTERVAL_S = 300.0
_TICK_S = 1.0
_SHORT_TICK_S = 0.1
_BEFORE_S = 1e-6


class ChangeLogKeeper:
    """`attach` before companies are opened, then `run`; `close` while the replica can still be read. `on_segment` is
    told of each new segment."""

    def __init__(
        self,
        settings: Settings,
        replica: Replica,
        alerts: AlertSink,
        node_name: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.on_segment: Callable[[Place], None] = lambda _place: None
        self.segments = self.bytes = 0
        self.newest_at: float | None = None  # when the newest segment was closed
        self._settings = settings
        self._replica = replica
        self._alerts = alerts
        self._node_name = node_name
        self._wall = wall
        self._heard: list[Heard] = []
        self._gathering = Gathering()
        self._writer: SegmentWriter | None = None
        self._is_failing: bool | None = None  # None: nothing was tried yet
        self._retry_at = self._noted_at = 0.0
        self._attached: dict[Company, Record] = {}
        self._reached: dict[Company, int] = {}  # up to which batch each company's writes were collected
        self._spent_s = 0.0  # by snapshots since the last tick
        self._working = asyncio.Lock()

    @property
    def pending_s(self) -> float:
        """How old the oldest change is that no segment has yet."""
        since = self._gathering.since
        since = self._heard[0].at if since is None and self._heard else since
        return 0.0 if since is None else max(0.0, self._wall() - since)

    @property
    def is_failing(self) -> bool:
        return self._is_failing is True

    def attach(self) -> None:
        """Listen to the vault from now on."""
        self._attached = {record.company: record for record in self._replica.companies()}
        self._reached = {company: record.sequence for company, record in self._attached.items()}
        self._replica.listen(self)

    # -- what the vault tells

    def settling(self) -> None:
        self._collect(self._wall())

    def replaced(self, company: Company) -> None:
        self._reached.pop(company, None)
        self._heard.append(Heard("replaced", company, self._wall()))
        asyncio.get_running_loop().call_soon(self._at_once, company)

    def _at_once(self, company: Company) -> None:
        """A new state is known from its first moment on; where many come together, a little later."""
        if self._spent_s < SNAPSHOT_SHARE * _TICK_S:
            began = time.perf_counter()
            self._snapshot(company)
            self._spent_s += time.perf_counter() - began

    def claimed(self, company: Company, epoch: int) -> None:
        self._collect(self._wall(), company)
        self._heard.append(Heard("claimed", company, self._wall(), epoch))

    def removed(self, company: Company, epoch: int, sequence: int) -> None:
        self._collect(self._wall(), company)
        self._reached.pop(company, None)
        self._heard.append(Heard("removed", company, self._wall(), epoch, sequence, sequence))

    def left(self, company: Company) -> None:
        self._reached.pop(company, None)
        self._heard.append(Heard("left", company, self._wall()))

    def rebuilt(self) -> None:
        self._reached.clear()
        for record in self._replica.companies():
            self.replaced(record.company)

    def _collect(self, at: float, only: Company | None = None) -> None:
        """Take what was written since the last time, each key once: that costs writers nothing."""
        reached = self._reached
        if only is not None:
            reached = {only: reached[only]} if only in reached else {}
        for one in self._replica.recent(reached):
            self._reached[one.company] = one.last
            self._heard.append(Heard("changed", one.company, at, one.epoch, one.first, one.last, one.change))

    # -- what is made of it

    async def run(self) -> None:
        """Until cancelled."""
        step_s = 1.0 if self._settings.change_log_segment_s >= 2 * _TICK_S else _SHORT_TICK_S
        while True:
            now = self._wall()
            begins = (now // step_s + 1) * step_s
            await asyncio.sleep(begins - now)
            # What was acknowledged before a second begins belongs to the one before, however late this runs.
            self._collect(begins - _BEFORE_S)
            try:
                await self.tick(SNAPSHOT_SHARE * step_s)
            except Exception:
                # A loop that ended here would gather in memory for ever.
                log.exception("the change log failed unexpectedly")

    async def tick(self, snapshots_s: float, *, everything: bool = False) -> None:
        """Work off what was heard; write a segment where one is due, or there is anything to write and `everything`.
        Snapshots that are due take `snapshots_s` of the event loop's time."""
        async with self._working:
            self._spent_s = 0.0
            if self._writer is None and not await self._begun():
                return
            await self._snapshots(snapshots_s)
            self._collect(self._wall())
            heard, self._heard = self._heard, []
            closed_at = self._wall()
            self._gathering.take(heard)
            if everything or self._is_due():
                await self._write(closed_at)

    def _is_due(self) -> bool:
        gathering = self._gathering
        if gathering.since is None or time.monotonic() < self._retry_at:
            return False
        age_s = self._wall() - gathering.since
        return gathering.size >= SEGMENT_BYTES or not 0 <= age_s < self._settings.change_log_segment_s

    async def _begun(self) -> bool:
        """Find the end of the log; what the vault has beyond it, or differently, is to be had by snapshots."""
        if time.monotonic() < self._retry_at:
            return False
        settings = self._settings
        folder = Folder(settings.backup_directory / CHANGES / self._replica.node)
        try:
            sealer = await asyncio.to_thread(Sealer.of, settings)
            writer = SegmentWriter(folder, sealer, self._node_name)
            positions = await asyncio.to_thread(writer.begin)
        except (OSError, StandfastError) as error:
            self._failed(error)
            return False
        self._writer, self._gathering.positions = writer, positions
        self._compare()
        return True

    def _compare(self) -> None:
        """The vault's file as it was when it was attached, with what the log knows."""
        missed: list[Heard] = []
        for company, record in self._attached.items():
            position = self._gathering.positions.get(company)
            if position is None:
                self._gathering.due[company] = None
            elif position.epoch == record.epoch and position.last == record.sequence:
                continue
            elif found := self._journaled(record, position):
                missed += found
            else:
                position.follows = False
                self._gathering.due[company] = None
        self._heard[:0] = missed
        self._attached = {}

    def _journaled(self, record: Record, position: Position) -> list[Heard]:
        """What the log lacks of the company, batch by batch; empty where the journal does not have it so any more."""
        if position.epoch != record.epoch or not record.applied <= position.last < record.sequence:
            return []
        try:
            batches = self._replica.batches(record.number, position.last, UNWRITTEN_LIMIT_BYTES)
        except (StandfastError, ValueError):
            return []
        batches = [batch for batch in batches if batch.last <= record.sequence]
        if (
            not batches
            or batches[-1].last != record.sequence
            or any(one.first != one.last for one in batches)
        ):
            return []
        return [
            Heard("changed", record.company, one.at, record.epoch, one.first, one.last, one.change)
            for one in batches
        ]

    async def _snapshots(self, budget_s: float) -> None:
        gathering, now = self._gathering, self._wall()
        old = [company for company, one in gathering.positions.items() if one.wants_snapshot(now)]
        ends = time.perf_counter() + budget_s
        for company in [*gathering.due, *old]:
            if not self._snapshot(company):
                gathering.due.pop(company, None)
            if time.perf_counter() > ends:
                return
            await asyncio.sleep(0)

    def _snapshot(self, company: Company) -> bool:
        """Whether there is one to be had, now or later."""
        record = self._replica.record(company)
        if record is None:
            self._gathering.positions.pop(company, None)
            return False
        if not record.complete:
            return True
        with contextlib.suppress(StandfastError):  # it is damaged, and will be told as replaced
            state = self._replica.everything(record.number)
            self._collect(self._wall(), company)
            self._reached[company] = record.sequence
            self._heard.append(
                Heard(
                    "snapshot", company, self._wall(), record.epoch, record.sequence, record.sequence, state
                )
            )
        return True

    async def _write(self, closed_at: float) -> None:
        gathering, writer = self._gathering, self._writer
        assert writer is not None
        if not gathering.entries:
            return
        try:
            place = await asyncio.to_thread(
                writer.write, gathering.entries, closed_at, self._replica.database or ""
            )
        except OSError as error:
            self._failed(error)
            return
        self._went_well(place, closed_at)
        await self._note()

    def _went_well(self, place: Place, closed_at: float) -> None:
        self._gathering.closed()
        self.segments += 1
        self.bytes += place.length
        self.newest_at = closed_at
        if self._is_failing is not False:
            self._alerts.take(alarms.goes_on(quiet=self._is_failing is None))
        self._is_failing, self._retry_at = False, 0.0
        self.on_segment(place)

    def _failed(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + min(RETRY_S, self._settings.change_log_segment_s)
        if not self._is_failing:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._alerts.take(alarms.stopped(reason or str(error), self.newest_at))
        self._is_failing = True
        self._bound()

    def _bound(self) -> None:
        """Memory has a limit: what is given up is known by snapshots afterwards."""
        if self._gathering.size > UNWRITTEN_LIMIT_BYTES:
            self._gathering.lost()
        if self._writer is None:
            self._heard = []  # how far the log has come is not known: most companies will begin with a snapshot
            self._attached = {record.company: record for record in self._replica.companies()}
            self._reached = {company: record.sequence for company, record in self._attached.items()}

    async def _note(self, *, now: bool = False) -> None:
        if self._writer is None or not (now or time.monotonic() - self._noted_at > NOTE_INTERVAL_S):
            return
        self._noted_at = time.monotonic()
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._writer.note, self._gathering.positions)

    async def close(self) -> None:
        """Write what was heard, and listen no more."""
        await self.tick(1.0, everything=True)
        self._replica.unlisten(self)
        await self._note(now=True)

    def status(self) -> dict[str, Any]:
        """For health and metrics: figures since the process began."""
        return {
            "segments": self.segments,
            "bytes": self.bytes,
            "newest_at": self.newest_at,
            "pending_s": round(self.pending_s, 3),
            "failing": self.is_failing,
            "snapshots_due": len(self._gathering.due),
        }
