"""`BackupOutlook`: what only a running service knows of its backups: copies in remotes, change log, what comes next.

Invariant: it answers from what is known; it asks no remote, no disk and not PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from standfast.health.copies import Attempt, Copied, remote_copies
from standfast.health.document import BackupSection
from standfast.health.node_sections import ChangeLogState, RemoteCopies
from standfast.jobs.remotes.report import RemotesReport, Sent
from standfast.jobs.schedule.table import Job
from standfast.settings import Settings

IN_THE_CLEAR = "backups in the clear are not sent; BACKUP_RECIPIENTS names whom they are encrypted for"


class BackupOutlook:
    """`report`: what the last sending has found; `change_log`: see `ChangeLog.status`."""

    def __init__(
        self,
        settings: Settings,
        jobs: Sequence[Job],
        report: Callable[[], RemotesReport | None],
        change_log: Callable[[], dict[str, Any] | None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._remotes = tuple(one.name for one in settings.remotes)
        cron = next((job.cron for job in jobs if job.name == "backup"), None)
        self._cron = cron if settings.schedule == "on" else None
        self._report = report
        self._change_log = change_log
        self._wall = wall

    def tell(self, section: BackupSection, backups: Sequence[Copied] | None) -> None:
        """Add it. `backups`: None where the directory cannot be read."""
        now = self._wall()
        section.next_at = None if self._cron is None else self._cron.next(now)
        section.change_log = _change_log(self._change_log(), now)
        section.remotes = [self._remote(name, backups) for name in self._remotes]

    def _remote(self, name: str, backups: Sequence[Copied] | None) -> RemoteCopies:
        report = self._report()
        sent = next((one for one in report.remotes if one.remote == name), None) if report else None
        attempt = None if report is None or sent is None else _attempt(sent, report.not_encrypted)
        if backups is None:
            return RemoteCopies(name=name, error=None if attempt is None else attempt.error)
        return remote_copies(name, backups, attempt)


def _attempt(sent: Sent, not_encrypted: Sequence[str]) -> Attempt:
    error: str | None = None
    if sent.error is not None:
        error = str(sent.error["message"])
    elif sent.problems:
        error = sent.problems[0]
    elif not_encrypted:
        error = IN_THE_CLEAR
    return Attempt(tuple(sent.waiting), error)


def _change_log(status: dict[str, Any] | None, now: float) -> ChangeLogState:
    if status is None:
        return ChangeLogState(on=False)
    newest_at = status["newest_at"]
    return ChangeLogState(
        on=True,
        segments=status["segments"],
        newest_at=newest_at,
        newest_age_s=None if newest_at is None else round(max(0.0, now - newest_at), 1),
        pending_s=status["pending_s"],
        failing=status["failing"],
    )
