"""The job: good backups go to every remote that lacks them, and what a remote keeps no longer goes.

Invariant: a backup counts in a remote only once all of it was read back with the checksum of its manifest. What fails
there delays, alerts, is tried again, and touches neither a local backup nor another remote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from standfast.errors import JobRunning
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.room import Lock
from standfast.jobs.backup.sealing import NOT_ENCRYPTED
from standfast.jobs.context import JobContext
from standfast.jobs.remotes.delivery import Delivery, Notes
from standfast.jobs.remotes.opening import opened_remotes
from standfast.jobs.remotes.report import RemotesReport
from standfast.settings import Settings

LOCK = ".sending.lock"


async def send_backups(
    context: JobContext, *, only: str | None = None, at_once: bool = False
) -> RemotesReport:
    """Send what is due to all remotes, or to `only` that one (`NotFound` where there is none of that name). One that
    failed is left alone for a while, longer each time, unless `at_once`. A remote's failure is in the report. Raises
    `JobRunning` where another process sends, `BackupFailed` where the backups here cannot be read. The database is not
    asked."""
    settings, alerts, progress = context.settings, context.alerts, context.progress
    async with opened_remotes(settings, only) as remotes:
        if not remotes:
            return RemotesReport([])
        catalogue = Catalogue(settings.backup_directory)
        await on_disk(catalogue.prepare)
        lock = await on_disk(lambda: _lock(catalogue))
        try:
            good = [one for one in await on_disk(catalogue.backups) if one.state == "good"]
            sendable, in_the_clear = _sendable(settings, good)
            notes = Notes(catalogue)
            deliveries = [Delivery(settings, remote, sendable, notes, alerts, progress) for remote in remotes]
            progress.step("look at remotes")
            await asyncio.gather(*(one.prepare(at_once=at_once) for one in deliveries))
            progress.step("send", sum(one.bytes_to_send for one in deliveries), "bytes")
            await asyncio.gather(*(one.carry_out() for one in deliveries))
        finally:
            lock.release()
    return RemotesReport([one.report for one in deliveries], [one.name for one in in_the_clear])


def _sendable(settings: Settings, good: Sequence[Backup]) -> tuple[list[Backup], list[Backup]]:
    allowed = (settings.backup_recipients or "").split() == [NOT_ENCRYPTED]
    sendable: list[Backup] = []
    in_the_clear: list[Backup] = []
    for one in good:
        encrypted = one.manifest is not None and one.manifest.content.encrypted
        (sendable if encrypted or allowed else in_the_clear).append(one)
    return sendable, in_the_clear


def _lock(catalogue: Catalogue) -> Lock:
    try:
        return Lock(catalogue.root, LOCK)
    except JobRunning:
        raise JobRunning(f"another process sends the backups of {catalogue.root} to the remotes") from None
