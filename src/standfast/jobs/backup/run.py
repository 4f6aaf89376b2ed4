"""The job: a backup is made, compared with the last good one, validated, and only then older ones go.

Invariant: whatever fails, earlier backups are as they were. One run at a time in a fleet and in a directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from standfast.errors import BackupFailed, JobRunning, StandfastError
from standfast.jobs.backup import alarms, proof_alarms, room
from standfast.jobs.backup.aside import begun, on_disk
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.comparison import judge, rows_in
from standfast.jobs.backup.dump import STALL_S
from standfast.jobs.backup.making import Making, make
from standfast.jobs.backup.manifest import Kind, Manifest, Validation
from standfast.jobs.backup.planning import Surroundings, kinds_of, last_good, planned, surroundings_of
from standfast.jobs.backup.report import BackupReport
from standfast.jobs.backup.rotation import dated, removable
from standfast.jobs.context import JobContext
from standfast.jobs.sole import sole

Validator = Callable[[JobContext, Backup], Awaitable[Validation]]
JOB = "backup"


async def run_backup(
    context: JobContext,
    kinds: Sequence[Kind] = ("daily",),
    *,
    dry_run: bool = False,
    validate: Validator | None = None,
    stall_s: float = STALL_S,
) -> BackupReport:
    """Make one. The first good one of a month is also a monthly one. `validate` says whether it is good, trying again
    by itself and recording what it found; without it the backup stays unproven and nothing is rotated. Raises
    `ClientToolsMismatch`, `BackupFailed`, `JobRunning` and the database's errors; all but `JobRunning` alert too."""
    if dry_run:
        return BackupReport(plan=await planned(context, kinds))
    try:
        async with sole(context, JOB):
            return await _run(context, kinds, validate, stall_s)
    except JobRunning:
        raise
    except StandfastError as error:
        context.alerts.take(alarms.failed(error, await _age_of_last_good_s(context)))
        raise


async def _run(
    context: JobContext, kinds: Sequence[Kind], validate: Validator | None, stall_s: float
) -> BackupReport:
    surroundings = await surroundings_of(context)
    catalogue = Catalogue(context.settings.backup_directory)
    await on_disk(catalogue.prepare)
    async with _locked(catalogue):
        left_over = await on_disk(lambda: room.remove_left_over(catalogue.root))
        before = await on_disk(catalogue.backups)
        last = last_good(before, surroundings.identity)
        await on_disk(lambda: room.check_free(catalogue.root, last.content.bytes if last else 0))
        manifest = await make(_making(context, surroundings, kinds, before, last, stall_s))
        report = _report(catalogue, manifest, left_over)
        await _judged(context, catalogue, manifest, last, report)
        report.validation = await _validated(context, catalogue, manifest, validate)
        context.alerts.take(alarms.made(manifest.name, report.rows, report.bytes))
        if report.validation is not None:
            report.removed = await _rotated(context, catalogue, manifest)
        return report


@contextlib.asynccontextmanager
async def _locked(catalogue: Catalogue) -> AsyncIterator[None]:
    lock = await on_disk(lambda: room.Lock(catalogue.root), undo=room.Lock.release)
    try:
        yield
    finally:
        lock.release()


def _making(
    context: JobContext,
    surroundings: Surroundings,
    kinds: Sequence[Kind],
    before: Sequence[Backup],
    last: Manifest | None,
    stall_s: float,
) -> Making:
    return Making(
        context,
        surroundings.tools,
        surroundings.to,
        kinds_of(kinds, before, surroundings),
        stall_s,
        last.content.plain_bytes if last else None,
    )


async def _judged(
    context: JobContext, catalogue: Catalogue, manifest: Manifest, last: Manifest | None, report: BackupReport
) -> None:
    """What holds nothing is kept for a look, as a bad one."""
    judgement = judge(manifest, last)
    if judgement.fault:
        verdict = Validation(at=time.time(), ok=False, duration_s=0.0, message=judgement.fault)
        await _recorded(catalogue, manifest, verdict)
        raise BackupFailed(
            f"the backup {manifest.name} does not count: {judgement.fault}",
            next_step=f"See what PostgreSQL holds: standfast stats. It is kept: standfast backup show {manifest.name}",
        )
    report.oddities = list(judgement.oddities)
    if report.oddities:
        context.alerts.take(alarms.odd(manifest.name, report.oddities))


async def _validated(
    context: JobContext, catalogue: Catalogue, manifest: Manifest, validate: Validator | None
) -> Validation | None:
    if validate is None:
        return None
    context.progress.step("validate")
    verdict = await validate(context, await on_disk(lambda: catalogue.get(manifest.name)))
    await _recorded(catalogue, manifest, verdict)
    if not verdict.ok:
        raise BackupFailed(
            f"the backup {manifest.name} was made and is not good: {verdict.message}",
            next_step="Check the disk that BACKUP_ROOT lies on, then: standfast backup run",
        )
    return verdict


async def _recorded(catalogue: Catalogue, manifest: Manifest, verdict: Validation) -> None:
    """Unless whoever came to the verdict has written it down."""
    backup = await on_disk(lambda: catalogue.get(manifest.name))
    if not backup.record.validations or backup.record.validations[-1].at < verdict.at:
        backup.record.validations.append(verdict)
        await on_disk(lambda: catalogue.record(manifest.name, backup.record))


async def _rotated(context: JobContext, catalogue: Catalogue, manifest: Manifest) -> list[str]:
    """A backup that cannot be removed is no failure of the one that was made."""
    settings = context.settings
    every = dated(await on_disk(catalogue.backups), manifest.identity)
    names = removable(every, settings.backup_keep_daily, settings.backup_keep_monthly, manifest.snapshot_at)
    if not names:
        return []
    context.progress.step("rotate")
    removed = await on_disk(lambda: room.remove(catalogue.root, names))
    for name in removed:
        context.alerts.take(proof_alarms.gone(name))
    return removed


async def _age_of_last_good_s(context: JobContext) -> float | None:
    found = begun(Catalogue(context.settings.backup_directory).backups, "backup-disk")
    await asyncio.wait({found}, timeout=2.0)
    if not found.done() or found.exception() is not None:
        return None
    at = [one.manifest.snapshot_at for one in found.result() if one.state == "good" and one.manifest]
    return max(0.0, time.time() - max(at)) if at else None


def _report(catalogue: Catalogue, manifest: Manifest, left_over: list[str]) -> BackupReport:
    return BackupReport(
        name=manifest.name,
        path=str(catalogue.root / manifest.name),
        kinds=manifest.kinds,
        companies=len(manifest.companies),
        rows=rows_in(manifest),
        bytes=manifest.content.bytes,
        plain_bytes=manifest.content.plain_bytes,
        encrypted=manifest.content.encrypted,
        duration_s=manifest.duration_s,
        left_over=left_over,
    )
