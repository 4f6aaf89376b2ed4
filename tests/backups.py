"""Backups for tests: a job's context without a service, and real backups of a test's database."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from standfast.alert import Alert
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.run import run_backup
from standfast.jobs.context import JobContext
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings


@dataclass
class Told:
    """A sink that remembers."""

    alerts: list[Alert] = field(default_factory=list)

    def take(self, alert: Alert) -> None:
        self.alerts.append(alert)

    @property
    def names(self) -> list[str]:
        return [alert.name for alert in self.alerts]


@contextlib.asynccontextmanager
async def job_context(
    options: DatabaseOptions, directory: Path, **settings: Any
) -> AsyncIterator[tuple[JobContext, Told]]:
    """Of a database, with backups in `directory`; and what the job has told."""
    dsn = SecretStr(options.to_conninfo())
    given = Settings(
        state_dir=directory / "state", backup_root=directory / "backups", database_url=dsn, **settings
    )
    told = Told()
    async with Database(replace(options, statement_timeout_s=30.0)) as database:
        yield JobContext(given, database, told, str(uuid.uuid4()), "one"), told


async def backed_up(context: JobContext) -> Backup:
    """A backup of what the database holds now, looked into by nobody yet."""
    report = await run_backup(context)
    return Catalogue(context.settings.backup_directory).get(report.name)
