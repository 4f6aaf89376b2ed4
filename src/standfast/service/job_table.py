"""Which jobs there are, and what each does.

Invariant: a job does the same here as its command; the commands' settings are the schedule's.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from standfast.errors import BackupDamaged, JobRunning
from standfast.jobs.backup.alarms import made_elsewhere
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import RestoreTest
from standfast.jobs.backup.report import BackupReport
from standfast.jobs.backup.restore_test import restore_test
from standfast.jobs.backup.run import run_backup
from standfast.jobs.backup.validate import validate, validate_all
from standfast.jobs.changelog.maintenance import maintain
from standfast.jobs.cleanup.report import CleanupReport
from standfast.jobs.cleanup.run import CleanupOptions, run_cleanup
from standfast.jobs.context import JobContext
from standfast.jobs.schedule.table import Job, Work, cron_of
from standfast.settings import Settings

TURN_TIMEOUT_S = 3600.0
TURN_POLL_S = 10.0


async def _clean_here(context: JobContext) -> CleanupReport:
    return await run_cleanup(context, None, CleanupOptions())


def jobs_of(settings: Settings, clean: Work = _clean_here) -> list[Job]:
    """`clean`: how a service does it, through its vault. They are in the order in which those go that are due at the
    same time: what is removed is in a backup before."""

    def has_backups() -> bool:
        return bool(Catalogue(settings.backup_directory).backups())

    def has_good() -> bool:
        return _newest_good(settings) is not None

    def has_log() -> bool:
        return settings.change_log == "on"

    def job(name: str, work: Any, fields: str, **more: Any) -> Job:
        return Job(name, work, cron_of(settings, fields), fields, **more)

    return [
        job("backup", _backup, settings.backup_cron, alerts=True, well=made_elsewhere),
        job("cleanup", _in_turn(clean), settings.cleanup_cron, each_node=True),
        job("validate", _validate, settings.validate_cron, each_node=True, able=has_backups),
        job("changelog", maintain, settings.validate_cron, each_node=True, able=has_log),
        job("restore-test", _restore_test, settings.restore_test_cron, alerts=True, able=has_good),
    ]


def _in_turn(work: Work) -> Work:
    """What every node does and only one at a time: the others wait."""

    async def waiting(context: JobContext) -> Any:
        until = time.monotonic() + TURN_TIMEOUT_S
        while True:
            try:
                return await work(context)
            except JobRunning:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(TURN_POLL_S)

    return waiting


class Validations(msgspec.Struct):
    """What the day's look at every backup has found."""

    good: int
    bad: list[str]

    @property
    def first_line(self) -> str:
        bad = f", bad: {', '.join(self.bad)}" if self.bad else ""
        return f"{self.good:,} good{bad}"


async def _backup(context: JobContext) -> BackupReport:
    return await run_backup(context, validate=validate)


async def _validate(context: JobContext) -> Validations:
    found = await validate_all(context)
    bad = [one.backup.name for one in found if not one.validation.ok]
    return Validations(len(found) - len(bad), bad)


async def _restore_test(context: JobContext) -> RestoreTest:
    """Of the newest good backup."""
    backup = await asyncio.to_thread(_newest_good, context.settings)
    if backup is None:
        raise BackupDamaged("there is no good backup that could be restored for a test")
    from standfast.service.restore_login import (
        SimulatedLogin,  # it is made of a service, and we are part of one
    )

    test = await restore_test(context, backup, SimulatedLogin(context.settings))
    if not test.ok:
        raise BackupDamaged(f"the restore test of {backup.name} failed: {test.message}")
    return test


def _newest_good(settings: Settings) -> Backup | None:
    good = [
        one for one in Catalogue(settings.backup_directory).backups() if one.manifest and one.state == "good"
    ]
    return max(good, key=lambda one: one.manifest.snapshot_at if one.manifest else 0.0, default=None)
