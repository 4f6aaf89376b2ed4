"""The schedule where no service runs: shown, and a job of it run by a command.

Invariant: looking starts no server; what a command runs is on record as what a service runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from standfast.errors import NotFound, StandfastError
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress
from standfast.jobs.schedule.records import Records, Run
from standfast.jobs.schedule.scheduler import Scheduler
from standfast.postgres.observing import NOBODY
from standfast.postgres.pool import Database
from standfast.service.database import reachable_options
from standfast.service.job_context import command_context
from standfast.service.job_table import jobs_of
from standfast.service.keeping import schedule_wire
from standfast.service.vault import vault_options
from standfast.settings import Settings

LOOK_TIMEOUT_S = 5.0


async def schedule_here(settings: Settings) -> dict[str, Any]:
    """As `schedule.list` of a service; the runs are those of any node of this name."""
    runs: list[Run] | None = None
    options = reachable_options(settings)
    if options is not None:
        with contextlib.suppress(StandfastError, TimeoutError):
            async with asyncio.timeout(LOOK_TIMEOUT_S), Database(options, NOBODY.queries) as database:
                runs = await Records(database, "", "").last_runs()
    name = vault_options(settings).node_name
    node = next((run.node for run in runs or () if "@" in run.job and run.node_name == name), "")
    return schedule_wire(settings, runs, node)


async def run_here(settings: Settings, name: str, progress: Progress) -> dict[str, Any]:
    """Run a job in this process; how it ended."""
    jobs = jobs_of(settings)
    if not any(job.name == name for job in jobs):
        known = ", ".join(job.name for job in jobs)
        raise NotFound(f"there is no job {name[:40]!r}", next_step=f"Jobs: {known}.")
    async with command_context(settings, "schedule", progress) as context:

        @contextlib.asynccontextmanager
        async def given(_watched: Progress) -> AsyncIterator[JobContext]:
            yield context

        records = Records(context.database, context.node, context.node_name)
        scheduler = Scheduler(jobs, records, context.alerts, given)
        return msgspec.to_builtins(await scheduler.run_now(scheduler.ask(name)))  # type: ignore[no-any-return]
