"""Giving up an unfinished restore: what it replaced is put back.

Invariant: a company that the restore has not come to is not touched; one that was replayed lost nothing and stays.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path

from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.jobs.context import JobContext
from standfast.jobs.restore.installing import RESTORER, Fence, install_given
from standfast.jobs.restore.keeping import kept_state
from standfast.jobs.restore.node import LocalNode
from standfast.jobs.restore.plan import Planned
from standfast.jobs.restore.present import Present, look_at
from standfast.jobs.restore.restore import JOB, Restored, RestoreReport, note_running
from standfast.jobs.restore.rules import MEMORY
from standfast.jobs.restore.staging import Staging
from standfast.jobs.restore.steps import Step, Steps, StepsFile
from standfast.jobs.sole import sole
from standfast.postgres.migrations import migrate


async def abandon(
    context: JobContext, node: LocalNode | None, file: StepsFile, steps: Steps
) -> RestoreReport:
    """Put back what was replaced, start what ran. The steps file stays where a company could not be put back."""
    await migrate(context.database)
    with file.locked():
        return await _abandoned(replace(context, node=str(uuid.UUID(steps.id))), node, file, steps)


async def _abandoned(
    context: JobContext, node: LocalNode | None, file: StepsFile, steps: Steps
) -> RestoreReport:
    began = time.monotonic()
    async with sole(context, JOB):
        if node is not None:
            await note_running(node, file, steps)
            await node.hold(steps.companies)
        target = await look_at(context.database)
        standing = await node.standing() if node is not None else None
        fence = Fence(standing.node if standing is not None else None)
        done = [
            await _put_back(context, node, company, step, target.of(company), fence)
            for company, step in sorted(steps.companies.items())
        ]
        if node is not None:
            outcomes = await node.let_go(
                steps.companies, [c for c, step in steps.companies.items() if step.ran]
            )
            for one in done:
                one.session = outcomes.get(one.company)
        finished = all(one.error is None for one in done)
        if finished:
            await Staging(context.database, steps.id).drop()
            await file.remove()
    return RestoreReport(steps.source, steps.target, round(time.monotonic() - began, 3), done, finished)


async def _put_back(
    context: JobContext, node: LocalNode | None, company: str, step: Step, now: Present, fence: Fence
) -> Restored:
    was_placed = step.stage == "done" or (
        step.stage == "kept" and now.claimed_by == RESTORER and now.epoch > step.epoch
    )
    if step.action in ("replay", "returned") or not was_placed:
        return Restored(company, "same", kept=step.kept)
    planned = Planned(company, step.action, epoch=max(now.epoch, step.epoch), sequence_now=now.sequence)
    try:
        creds, keys = await kept_state(Path(step.kept)) if step.kept else (None, {})
        keys.pop(MEMORY, None)
        await install_given(context.database, planned, creds, keys, fence)
        if node is not None and creds is not None:
            await node.renew(Company(company))
    except StandfastError as error:
        return Restored(company, step.action, kept=step.kept, error=error.message)
    return Restored(company, step.action, sum(map(len, keys.values())), step.kept)
