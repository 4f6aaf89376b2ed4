"""What a verification runs with: the database, and this node's replica wherever it is open.

Invariant: without a service, this process holds the state directory meanwhile; a database that is away is no reason
not to look at the rest.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator

from standfast.alert import LoggedAlerts
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress
from standfast.jobs.verify.sources import LocalReplica
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.database import open_database
from standfast.service.job_context import command_context, offline_context
from standfast.service.link import Link
from standfast.service.offline import held_directory, service_runs
from standfast.service.vault import vault_directory, vault_key, vault_options
from standfast.service.verify_methods import ReplicaHere, ReplicaThere
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault import alerts as raised
from standfast.vault.storage.replica import Replica

PURPOSE = "verify"


@contextlib.asynccontextmanager
async def verifying_context(
    settings: Settings, progress: Progress, *, with_database: bool = True
) -> AsyncIterator[tuple[JobContext, LocalReplica | None]]:
    """The database is not asked anything yet; without it, none is opened or started."""
    async with contextlib.AsyncExitStack() as stack:
        alerts = LoggedAlerts()
        if service_runs(settings):
            link = Link(StateDirectory(settings.state_dir).gateway_socket)
            stack.callback(link.close)
            await link.open()
            context = await stack.enter_async_context(
                command_context(settings, PURPOSE, progress, alerts)
                if with_database
                else offline_context(settings, progress, alerts)
            )
            yield context, ReplicaThere(link)
            return
        await stack.enter_async_context(held_directory(settings, PURPOSE))
        database = (
            await stack.enter_async_context(open_database(settings, owner=True))
            if with_database
            else Database(DatabaseOptions(), NOBODY.queries)
        )
        replica = await _replica(settings, alerts, stack)
        yield (
            _context(settings, database, alerts, progress),
            ReplicaHere(replica) if replica is not None else None,
        )


def _context(settings: Settings, database: Database, alerts: LoggedAlerts, progress: Progress) -> JobContext:
    return JobContext(
        settings, database, alerts, str(uuid.uuid4()), vault_options(settings).node_name, progress
    )


async def _replica(
    settings: Settings, alerts: LoggedAlerts, stack: contextlib.AsyncExitStack
) -> Replica | None:
    directory = vault_directory(settings)
    if not (directory / "vault.db").exists():
        return None
    replica = Replica.open(
        directory, vault_key(settings), on_damage=lambda damage: alerts.take(raised.replica_corrupt(damage))
    )
    stack.push_async_callback(replica.close)
    return replica
