"""What a command's job is given, with or without a service beside it.

Invariant: opening one starts no vault and asks PostgreSQL nothing.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

from standfast.alert import AlertSink
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress, Silent
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.database import open_database, reachable_options
from standfast.service.job_alerts import told
from standfast.service.vault import vault_options
from standfast.settings import Settings


@contextlib.asynccontextmanager
async def offline_context(
    settings: Settings, progress: Progress | None = None, alerts: AlertSink | None = None
) -> AsyncIterator[JobContext]:
    """For a job that asks the database nothing, such as looking into backups while PostgreSQL is gone: its database is
    not open. Without `alerts`, the service's channels are told at the end."""
    async with told(settings, alerts) as sink:
        yield JobContext(
            settings,
            Database(reachable_options(settings) or DatabaseOptions(), NOBODY.queries),
            sink,
            str(uuid.uuid4()),
            vault_options(settings).node_name,
            progress or Silent(),
        )


def service_context(
    settings: Settings, database: Database, alerts: AlertSink, node: str, progress: Progress | None = None
) -> JobContext:
    """For a job that the service itself runs. `node`: by which PostgreSQL knows it."""
    return JobContext(
        settings, database, alerts, node, vault_options(settings).node_name, progress or Silent()
    )


@contextlib.asynccontextmanager
async def command_context(
    settings: Settings, purpose: str, progress: Progress | None = None, alerts: AlertSink | None = None
) -> AsyncIterator[JobContext]:
    """For a command that runs a job in its own process. An embedded server is shared with a running service, or started
    for as long as this lasts; `purpose` tells others who holds the state directory meanwhile. Without `alerts`, the
    service's channels are told at the end."""
    # Told outside of the other: a desk of this process needs the state directory.
    async with told(settings, alerts) as sink, open_database(settings, purpose=purpose) as database:
        yield JobContext(
            settings,
            database,
            sink,
            str(uuid.uuid4()),
            vault_options(settings).node_name,
            progress or Silent(),
        )
