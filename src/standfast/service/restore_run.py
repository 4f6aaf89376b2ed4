"""A restore as a command runs it: the backup found, the plan made, shown and agreed to, then done.

Invariant: nothing is changed before the plan was agreed to, and no second restore begins while one is unfinished.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from psycopg import conninfo

from standfast.alert import AlertSink
from standfast.errors import RestoreRefused, UsageError
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress, Silent
from standfast.jobs.restore.abandon import abandon
from standfast.jobs.restore.from_backup import BackupSource
from standfast.jobs.restore.from_log import PREFIX, LogSource
from standfast.jobs.restore.later import LoggedStates
from standfast.jobs.restore.node import LocalNode
from standfast.jobs.restore.plan import Plan, Wish
from standfast.jobs.restore.restore import Restore, RestoreReport, Work
from standfast.jobs.restore.source import Source
from standfast.jobs.restore.steps import Steps, StepsFile
from standfast.postgres.client_tools import find_client_tools
from standfast.service.job_alerts import told
from standfast.service.restoring import restoring_context
from standfast.service.vault import vault_options
from standfast.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """`to`: another database than that of the settings."""

    name: str
    wish: Wish
    to: str | None = field(default=None, repr=False)


Agree = Callable[[Plan], bool]


async def restore_backup(
    settings: Settings,
    asked: Asked,
    agree: Agree,
    progress: Progress | None = None,
    alerts: AlertSink | None = None,
) -> RestoreReport | None:
    """Restore a backup, if `agree` says so of the plan (it is asked in a thread); None where it does not."""
    StepsFile(settings.state_dir).refuse_unfinished()
    backup = await asyncio.to_thread(Catalogue(settings.backup_directory).get, asked.name)
    source = await _of_backup(settings, backup)
    return await restore_from(settings, source, asked, agree, progress, alerts)


async def restore_from(
    settings: Settings,
    source: Source,
    asked: Asked,
    agree: Agree,
    progress: Progress | None = None,
    alerts: AlertSink | None = None,
) -> RestoreReport | None:
    """As `restore_backup`, from any source; one that is to be resumed must be found by its name in `_named`."""
    steps = StepsFile(settings.state_dir)
    steps.refuse_unfinished()
    async with _opened(settings, asked.to, progress, alerts) as (context, node):
        restore = Restore(_work(context, node, source, steps))
        plan = await restore.plan(asked.wish)
        if not await asyncio.to_thread(agree, plan) or not plan.writes:
            return None
        return await restore.run(plan, asked.wish)


async def resume_unfinished(
    settings: Settings, to: str | None, progress: Progress | None = None, alerts: AlertSink | None = None
) -> RestoreReport:
    """Go on with the unfinished restore. `RestoreRefused` where there is none."""
    steps = StepsFile(settings.state_dir)
    found = _unfinished(steps)
    source = await _named(settings, found)
    async with _opened(settings, to, progress, alerts) as (context, node):
        return await Restore(_work(context, node, source, steps)).resume(found)


async def abandon_unfinished(
    settings: Settings, to: str | None, progress: Progress | None = None, alerts: AlertSink | None = None
) -> RestoreReport:
    """Put back what the unfinished restore has replaced. `RestoreRefused` where there is none."""
    steps = StepsFile(settings.state_dir)
    found = _unfinished(steps)
    if found.other_database != (to is not None):
        raise RestoreRefused(
            f"the unfinished restore is into {found.target}",
            next_step="Name the same database: with --to if it was begun with --to, else without.",
        )
    async with _opened(settings, to, progress, alerts) as (context, node):
        return await abandon(context, node, steps, found)


@contextlib.asynccontextmanager
async def _opened(
    settings: Settings, to: str | None, progress: Progress | None, alerts: AlertSink | None
) -> AsyncIterator[tuple[JobContext, LocalNode | None]]:
    """Without `alerts`, the service's channels are told, once the state directory is free again."""
    where = _checked(to)
    async with (
        told(settings, alerts) as sink,
        restoring_context(settings, progress or Silent(), sink, where) as found,
    ):
        yield found


async def _named(settings: Settings, found: Steps) -> Source:
    """The source that the restore began with."""
    name = found.source
    if name.startswith(PREFIX):
        return LogSource.named(settings, name, found.companies)
    return await _of_backup(settings, await asyncio.to_thread(Catalogue(settings.backup_directory).get, name))


async def _of_backup(settings: Settings, backup: Backup) -> BackupSource:
    assert backup.manifest is not None, "the catalogue gives none without one"
    versions = (backup.manifest.server_version, backup.manifest.client_version)
    major = max(_major(version) for version in versions)
    tools = await asyncio.to_thread(find_client_tools, major, settings.pg_bin_dir)
    return BackupSource(backup, settings, tools.pg_restore, vault_options(settings).node_name)


def _work(context: JobContext, node: LocalNode | None, source: Source, steps: StepsFile) -> Work:
    """The change log is not asked for what came after a moment that was chosen in it."""
    is_backup = isinstance(source, BackupSource)
    later = LoggedStates(context.settings) if node is not None and is_backup else None
    return Work(context, source, node, steps, later)


def _unfinished(steps: StepsFile) -> Steps:
    found = steps.read()
    if found is None:
        raise RestoreRefused(
            "no restore is unfinished", next_step="Begin one: standfast backup restore NAME --dry-run"
        )
    return found


def _major(version: str) -> int:
    digits = version.split(".", maxsplit=1)[0].rsplit(maxsplit=1)[-1]
    return int(digits) if digits.isdecimal() else 0


def _checked(dsn: str | None) -> str | None:
    """A password in a command's arguments can be read by everybody on the machine."""
    if dsn is None:
        return None
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except Exception:  # noqa: BLE001  # libpq's own words would repeat a piece of it
        raise UsageError("what --to names is no connection string of libpq") from None
    if parts.get("password"):
        raise UsageError(
            "the connection string of --to holds a password, which every user of this machine could read",
            next_step="Give it without, and the password in PGPASSWORD or ~/.pgpass.",
        )
    return dsn
