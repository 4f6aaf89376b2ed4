"""`Keeping`: the jobs of a running service, at their times and on request.

Invariant: jobs have a database pool of their own, so that none keeps the vault's waiting; whatever becomes of a job,
the service goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from standfast.alert import AlertSink
from standfast.health.metrics.jobs import JobFigures, LastRun
from standfast.jobs.cleanup.pre_keys import AskWhatsApp
from standfast.jobs.cleanup.run import CleanupOptions
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress
from standfast.jobs.schedule.records import Outcome, Records, Run
from standfast.jobs.schedule.scheduler import Pace, Scheduler
from standfast.postgres.pool import Database
from standfast.service.cleaning import Cleaning
from standfast.service.foundation import cancelled
from standfast.service.job_context import service_context
from standfast.service.job_table import jobs_of
from standfast.service.params import checked
from standfast.service.repairing import Repairing
from standfast.service.sending import Sending
from standfast.service.vault import vault_options
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection
from standfast.settings import Settings
from standfast.vault.outage import State
from standfast.vault.vault import Vault

CONNECTIONS = 3
_ABOUT_BACKUPS = frozenset({"backup", "validate", "restore-test"})


class RunJob(msgspec.Struct):
    """Params of `schedule.run`."""

    job: str


class Keeping:
    """`running` for as long as the service runs. `on_backups` is called when something has become of the backups."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        vault: Vault,
        alerts: AlertSink,
        ask: AskWhatsApp,
        pace: Pace | None = None,
    ) -> None:
        options = replace(database.options, max_connections=CONNECTIONS, application_name="standfast-jobs")
        self._database = Database(options, database.observer)
        self._settings = settings
        self._alerts = alerts
        self._vault = vault
        self._node = vault.replica.node
        name = vault_options(settings).node_name
        self._records = Records(self._database, self._node, name)
        self._cleaning = Cleaning(vault, self._given, ask)
        self._repairing = Repairing(vault, self._given)
        jobs = jobs_of(settings, lambda context: self._cleaning.clean(CleanupOptions(), context))
        self.sending = Sending(self._given)
        self.scheduler = Scheduler(jobs, self._records, alerts, self._context, pace)
        self.scheduler.on_ended = self._ended
        self.sending.on_ended = self._backups_changed
        self.on_backups: Callable[[], None] = lambda: None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Jobs run meanwhile; without a schedule only those that are asked for."""
        self._vault.outage.changed(self._note)
        async with self._database:
            self.scheduler.start(due=self._settings.schedule == "on")
            sending = asyncio.create_task(self.sending.run()) if self._settings.remotes else None
            try:
                yield
            finally:
                await self.scheduler.stop()
                if sending is not None:
                    await cancelled(sending)

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        rooms = (self._cleaning.methods(), self._repairing.methods())
        return {"schedule.list": self._list, "schedule.run": self._run, **rooms[0], **rooms[1]}

    def figures(self) -> JobFigures:
        """What metrics show of jobs, since the service began."""
        tally = self._cleaning.tally
        last = {
            job: LastRun(one.outcome, one.at, one.duration_s) for job, one in self.scheduler.ended.items()
        }
        return JobFigures(self.scheduler.counts, last, tally.outcomes, tally.duration_s, tally.removed)

    def _ended(self, job: str, outcome: Outcome) -> None:
        if (job, outcome) == ("backup", "done"):
            self.sending.wake()
        if job in _ABOUT_BACKUPS:
            self._backups_changed()

    def _backups_changed(self) -> None:
        self.on_backups()

    def _note(self, state: State) -> None:
        if state is State.ONLINE:
            self.scheduler.wake()

    @contextlib.asynccontextmanager
    async def _context(self, progress: Progress) -> AsyncIterator[JobContext]:
        yield self._given(progress)

    def _given(self, progress: Progress | None = None) -> JobContext:
        return service_context(self._settings, self._database, self._alerts, self._node, progress)

    async def _list(self, _connection: Connection, _params: msgspec.Raw) -> dict[str, Any]:
        """Answers also while PostgreSQL does not; the last runs are then not known."""
        runs: list[Run] | None = None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2.0):
                runs = await self._records.last_runs()
        return schedule_wire(self._settings, runs, self._node, self.scheduler)

    async def _run(self, _connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return {"job": self.scheduler.ask(checked(RunJob, params).job).name}


def schedule_wire(
    settings: Settings, runs: list[Run] | None, node: str, scheduler: Scheduler | None = None
) -> dict[str, Any]:
    """The JSON form of `standfast schedule`; docs/schedule.md has it."""
    now = time.time()
    jobs = []
    for job in scheduler.jobs if scheduler is not None else jobs_of(settings):
        key = job.key(node)
        last = next((run for run in runs or () if run.job == key), None)
        going = scheduler.running if scheduler is not None else None
        watched = going.watched if going is not None and going.job == job.name else None
        jobs.append(
            {
                "job": job.name,
                "cron": job.fields,
                "each_node": job.each_node,
                "next_at": None if job.cron is None or settings.schedule == "off" else job.cron.next(now),
                "last": None if last is None else msgspec.to_builtins(last),
                "waits": scheduler is not None and job in scheduler.asked and watched is None,
                "running": None
                if watched is None or going is None
                else {
                    "since": going.since,
                    "step": watched.name,
                    "done": watched.done,
                    "total": watched.total,
                    "unit": watched.unit,
                },
            }
        )
    return {
        "schedule": settings.schedule,
        "time_zone": settings.time_zone,
        "runs_known": runs is not None,
        "jobs": jobs,
    }
