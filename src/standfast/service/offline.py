"""The vault of a state directory whose service does not run, for commands.

Invariant: a vault's file is opened only by the process that holds the state directory, and only where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any

from standfast.alert import LoggedAlerts
from standfast.alerts.file import history_of
from standfast.errors import StateDirectoryError
from standfast.postgres.replication import Replication
from standfast.service.database import SERVICE_PURPOSE, open_database
from standfast.service.vault import vault_directory, vault_key, vault_options
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault import alerts as raised
from standfast.vault.decisions import Decisions
from standfast.vault.opening import open_vault
from standfast.vault.outage import State
from standfast.vault.storage.replica import Replica

DECISION_TIMEOUT_S = 6.0
TURN_TIMEOUT_S = 30.0
_POLL_S = 0.1
_DECIDED = frozenset({State.ONLINE, State.OUTAGE})


def service_runs(settings: Settings) -> bool:
    """Whether a service holds the state directory: then it is the one to ask."""
    holder = StateDirectory(settings.state_dir).holder()
    return holder is not None and holder.purpose == SERVICE_PURPOSE


@contextlib.asynccontextmanager
async def local_replica(settings: Settings, purpose: str) -> AsyncIterator[Replica | None]:
    """The replica of this state directory, asked nothing of PostgreSQL; None where there is none.
    `StateDirectoryError` where another process holds the directory."""
    directory = vault_directory(settings)
    if not (directory / "vault.db").exists():
        yield None
        return
    async with held_directory(settings, purpose):
        alerts = LoggedAlerts()
        replica = Replica.open(
            directory,
            vault_key(settings),
            on_damage=lambda damage: alerts.take(raised.replica_corrupt(damage)),
        )
        try:
            yield replica
        finally:
            await replica.close()


def local_alerts(settings: Settings, since_s: float, *, open_only: bool) -> list[dict[str, Any]]:
    """Alerts as the service of this state directory left them, newest first. `StateDirectoryError` where they cannot be
    read."""
    from standfast.service.alerting import HISTORY_MAX, incident_wire  # channels are slow to import

    now, directory = time.time(), settings.state_dir / "alerts"
    try:
        incidents = history_of(directory, now - since_s, HISTORY_MAX)
    except (OSError, sqlite3.Error) as error:
        raise StateDirectoryError(
            f"the alerts in {directory} cannot be read: {error}",
            next_step="Check who owns the file; 'standfast up' moves one aside that is damaged.",
        ) from error
    return [incident_wire(one, now) for one in incidents if one.is_open or not open_only]


@contextlib.asynccontextmanager
async def local_decisions(settings: Settings, purpose: str) -> AsyncIterator[Decisions | None]:
    """The quarantine of this state directory, with a vault that runs in this process; None where there is none."""
    directory = vault_directory(settings)
    if not (directory / "vault.db").exists():
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(held_directory(settings, purpose))
        database = await stack.enter_async_context(open_database(settings, owner=True))
        vault = await stack.enter_async_context(
            open_vault(directory, database, vault_options(settings), key=vault_key(settings))
        )
        await vault.outage.wait_for(_DECIDED, DECISION_TIMEOUT_S)
        yield Decisions(vault, Replication(database), settings.state_dir / "archive")


@contextlib.asynccontextmanager
async def held_directory(settings: Settings, purpose: str) -> AsyncIterator[None]:
    """Hold the state directory, having waited for another command. `StateDirectoryError` where a service has it."""
    state = StateDirectory(settings.state_dir)
    deadline = time.monotonic() + TURN_TIMEOUT_S
    while not state.try_acquire(purpose):
        # Another command is soon done; a service is not.
        if service_runs(settings) or time.monotonic() > deadline:
            state.acquire(purpose)
            break
        await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        state.release()
