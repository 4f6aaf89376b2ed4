"""`Scheduler`: runs each job when it is due, one at a time, and catches up once on what was missed.

Invariant: PostgreSQL decides who of a fleet runs what was due, so no time is run twice, whatever the clocks do; a job's
failure ends neither the schedule nor another job.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from standfast.alert import AlertSink
from standfast.errors import JobRunning, NotFound, StandfastError
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress
from standfast.jobs.schedule import alarms
from standfast.jobs.schedule.records import Outcome, Records, Run
from standfast.jobs.schedule.table import Job

log = structlog.get_logger(__name__)
ContextOf = Callable[[Progress], AbstractAsyncContextManager[JobContext]]


@dataclass(frozen=True, slots=True)
class Pace:
    """`spread_s`: the longest that a node of a fleet lets the others go first. `tick_s`: how often what is due is
    looked for beside the times of cron. `late_s`: from when on a job that could not be begun is missed."""

    delay_s: float = 20.0
    tick_s: float = 30.0
    spread_s: float = 5.0
    late_s: float = 900.0
    limit_s: float = 6 * 3600.0
    stop_s: float = 10.0


class Watched:
    """What a job tells of itself while it runs, for whoever asks."""

    def __init__(self) -> None:
        self.name = ""
        self.total: int | None = None
        self.unit = ""
        self.done = 0

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        """See `Progress`."""
        self.name, self.total, self.unit, self.done = name, total, unit, 0

    def advance(self, done: int) -> None:
        """See `Progress`."""
        self.done += done

    def note(self, text: str) -> None:
        """See `Progress`."""
        log.info("job", note=text)


@dataclass(frozen=True, slots=True)
class Ended:
    """A job's last run here. `at` in seconds since 1970."""

    outcome: Outcome
    at: float
    duration_s: float


@dataclass(slots=True)
class Running:
    """The job that runs here now."""

    job: str
    key: str
    due_at: float
    since: float
    watched: Watched
    work: asyncio.Task[Any]


class Scheduler:
    """`run` until `stop`; `ask` for a job out of turn."""

    def __init__(
        self,
        jobs: Sequence[Job],
        records: Records,
        alerts: AlertSink,
        context_of: ContextOf,
        pace: Pace | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.jobs = jobs
        self.running: Running | None = None
        self.asked: list[Job] = []
        self.on_ended: Callable[[str, Outcome], None] = lambda _job, _outcome: None
        self.counts: dict[tuple[str, str], int] = {}
        self.ended: dict[str, Ended] = {}
        self._records = records
        self._alerts = alerts
        self._context_of = context_of
        self._pace = pace or Pace()
        self._wall = wall
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._begun = time.monotonic()
        self._settled: dict[str, float] = {}
        self._failing = {job.name for job in jobs if not job.each_node}
        self._unwritten: list[tuple[str, float, Outcome, dict[str, Any]]] = []
        self._has_closed = False
        self._task: asyncio.Task[None] | None = None

    def ask(self, name: str) -> Job:
        """Have it run next, whenever it is due. `NotFound`, or `JobRunning` where it runs or waits already."""
        job = next((one for one in self.jobs if one.name == name), None)
        if job is None:
            raise NotFound(
                f"there is no job {name[:40]!r}",
                next_step=f"Jobs: {', '.join(one.name for one in self.jobs)}.",
            )
        if job in self.asked or (self.running is not None and self.running.job == name):
            raise JobRunning(f"{name} runs already, or is about to")
        self.asked.append(job)
        self._wake.set()
        return job

    async def run_now(self, job: Job) -> Run:
        """Run it here and now, beside no schedule. Raises where it cannot be put on record."""
        key, node = job.key(self._records.node), self._records
        due_at, since = await node.begin(key), self._wall()
        outcome, report = await self._perform(job, due_at)
        message = str(report["message"])
        return Run(key, due_at, node.node, node.node_name, since, self._wall(), outcome, message)

    def start(self, *, due: bool = True) -> None:
        """Begin; without `due` only what is asked for is run."""
        self._task = asyncio.create_task(self._run(due=due), name="schedule")

    async def stop(self) -> None:
        """End what runs, note that it was ended, and return; within seconds."""
        self._stopping.set()
        self._wake.set()
        if self.running is not None:
            self.running.work.cancel()
        if self._task is not None:
            _, left = await asyncio.wait({self._task}, timeout=self._pace.stop_s)
            for task in left:
                log.error("a job does not end")
                task.cancel()

    def wake(self) -> None:
        """Look now: PostgreSQL is back."""
        self._wake.set()

    async def _run(self, *, due: bool) -> None:
        clock = self._clock() if due else None
        self._begun = time.monotonic()
        try:
            await self._pause(self._pace.delay_s if due else None)
            while not self._stopping.is_set():
                try:
                    await self._round(due=due)
                except StandfastError as error:
                    log.info("the schedule waits for PostgreSQL", error=error.code, reason=error.message)
                except Exception:
                    log.exception("the schedule failed unexpectedly")
                if not self.asked:
                    await self._pause(self._pace.tick_s)
        finally:
            if clock is not None:
                clock.shutdown(wait=False)

    def _clock(self) -> AsyncIOScheduler:
        """Wakes at the times of cron; which of them is whose is decided afterwards."""
        clock = AsyncIOScheduler()
        for job in self.jobs:
            if job.cron is not None:
                clock.add_job(
                    self._wake.set, job.cron.trigger, misfire_grace_time=None, coalesce=True, id=job.name
                )
        clock.start()
        return clock

    async def _pause(self, limit_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        self._wake.clear()

    async def _round(self, *, due: bool) -> None:
        while self.asked and not self._stopping.is_set():
            job = self.asked[0]
            try:
                await self._perform(job, await self._records.begin(job.key(self._records.node)))
            except StandfastError as error:
                log.warning("a job that was asked for could not begin", job=job.name, reason=error.message)
            finally:
                self.asked.remove(job)
        if not due:
            return
        try:
            await self._tidy()
        except StandfastError as error:
            for job in self.jobs:
                if (due_at := self._due(job)) is not None:
                    self._note_late(job, due_at, error)
            raise
        await self._look_elsewhere()
        for job in self.jobs:
            if self._stopping.is_set():
                return
            await self._consider(job)

    async def _look_elsewhere(self) -> None:
        """What failed here, maybe in an earlier process, may have been done well by another node since."""
        if not self._failing:
            return
        last = {run.job: run for run in await self._records.last_runs()}
        for job in self.jobs:
            run = last.get(job.key(self._records.node))
            if job.name not in self._failing or (run is not None and run.outcome != "done"):
                continue
            self._failing.discard(job.name)
            if run is not None:
                self._alerts.take(alarms.ran(job.name))
                if job.well is not None:
                    self._alerts.take(job.well())

    def _due(self, job: Job) -> float | None:
        """The latest time of the job that is not settled; None: there is none."""
        due_at = None if job.cron is None else job.cron.last(self._wall())
        return None if self._settled.get(job.name) == due_at else due_at

    async def _tidy(self) -> None:
        """What could not be written before, and what nobody will end any more."""
        while self._unwritten and not self._stopping.is_set():
            await self._records.end(*self._unwritten[0])
            self._unwritten.pop(0)
        if not self._has_closed:
            for key, node in await self._records.close_left():
                name = key.partition("@")[0]
                reason = f"the process that ran it on {node} was killed"
                self._alerts.take(alarms.failed(name, reason, None))
            self._has_closed = True

    async def _consider(self, job: Job) -> None:
        due_at = self._due(job)
        if due_at is None:
            return
        try:
            is_ours = await self._claimed(job, due_at)
        except StandfastError as error:
            self._note_late(job, due_at, error)
            raise
        if is_ours is None:
            return
        self._settled[job.name] = due_at
        if is_ours:
            await self._perform(job, due_at)
        else:
            self._alerts.take(alarms.taken(job.name))

    def _note_late(self, job: Job, due_at: float, error: StandfastError) -> None:
        # A process that has just begun cannot know whether it was done before.
        if min(self._wall() - due_at, time.monotonic() - self._begun) > self._pace.late_s:
            self._alerts.take(alarms.missed(job.name, due_at, error.message))

    async def _claimed(self, job: Job, due_at: float) -> bool | None:
        """None: it is not for this node to say."""
        if not await asyncio.to_thread(job.able):
            return None
        key = job.key(self._records.node)
        if await self._records.last_due(key) is None:
            await self._records.first(key, due_at)
            return False
        await asyncio.sleep(random.uniform(0, self._pace.spread_s))
        return await self._records.claim(key, due_at)

    async def _perform(self, job: Job, due_at: float) -> tuple[Outcome, dict[str, Any]]:
        watched = Watched()
        work = asyncio.create_task(self._worked(job, watched), name=f"job-{job.name}")
        key, begun = job.key(self._records.node), time.monotonic()
        self.running = Running(job.name, key, due_at, self._wall(), watched, work)
        try:
            await asyncio.wait({work})
        finally:
            if not work.done():
                work.cancel()
            self.running = None
        outcome, report = self._judged(job, work)
        if outcome == "done":
            self._failing.discard(job.name)
        elif outcome == "failed" and not job.each_node:
            self._failing.add(job.name)
        log.info("a job has ended", job=job.name, outcome=outcome, message=report["message"])
        self.counts[job.name, outcome] = self.counts.get((job.name, outcome), 0) + 1
        self.ended[job.name] = Ended(outcome, self._wall(), round(time.monotonic() - begun, 3))
        try:
            await self._records.end(key, due_at, outcome, report)
        except StandfastError:
            self._unwritten.append((key, due_at, outcome, report))
        self.on_ended(job.name, outcome)
        return outcome, report

    async def _worked(self, job: Job, watched: Watched) -> Any:
        async with asyncio.timeout(self._pace.limit_s), self._context_of(watched) as context:
            return await job.work(context)

    def _judged(self, job: Job, work: asyncio.Task[Any]) -> tuple[Outcome, dict[str, Any]]:
        if work.cancelled():
            return "skipped", {"message": "ended half-way: the service was stopped", "stopped": True}
        error = work.exception()
        if error is None:
            self._alerts.take(alarms.ran(job.name))
            return "done", told(work.result())
        if isinstance(error, JobRunning):
            return "skipped", {"message": error.message}
        if isinstance(error, StandfastError):
            if not job.alerts:
                self._alerts.take(alarms.failed(job.name, error.message, error.next_step))
            return "failed", {"message": error.message, "code": error.code}
        if isinstance(error, TimeoutError):
            message = f"it took longer than {self._pace.limit_s / 3600:g} h"
        else:
            log.error("a job failed unexpectedly", job=job.name, exc_info=error)
            message = f"an error of our own ({type(error).__name__})"
        self._alerts.take(alarms.failed(job.name, message, None))
        return "failed", {"message": message}


def told(report: Any) -> dict[str, Any]:
    """A report as it is kept: its first line, and the whole where it is not too long."""
    line = getattr(report, "first_line", None) or getattr(report, "message", None)
    if line is None:
        has_words = "__str__" in vars(type(report))
        line = report if has_words else "done"
    return {
        "message": str(line).split("\n", 1)[0][:300],
        "report": msgspec.to_builtins(report, enc_hook=str, str_keys=True),
    }
