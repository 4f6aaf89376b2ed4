"""`Foundation`: what a service stands on: the database, its schema and the vault.

Invariant: with a replica there, opening waits neither for PostgreSQL nor for its schema; with none, what does not pass
by itself ends the start with its own error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.health.tracing import observed
from standfast.postgres.observing import Observers
from standfast.postgres.pool import Database
from standfast.service import alarms
from standfast.service.database import OwnDatabase, open_own_database
from standfast.service.files_mode import FilesMode
from standfast.service.schema import SchemaKeeper
from standfast.service.vault import vault_directory, vault_key, vault_options
from standfast.settings import Settings
from standfast.vault.clock import Clock
from standfast.vault.opening import open_vault
from standfast.vault.storage.replica import Replica
from standfast.vault.vault import Vault

START_PATIENCE_S = 0.8  # with a replica there, for an embedded server that is about to be ready
CANCEL_INTERVAL_S = 0.2


class Foundation:
    """`open` once; then `database`, `schema` and `vault` are there."""

    database: Database
    schema: SchemaKeeper
    vault: Vault
    own: OwnDatabase

    def __init__(
        self,
        settings: Settings,
        alerts: AlertSink,
        clock: Clock,
        observers: Observers,
        is_dead: Callable[[Company], bool],
        attach: Callable[[Replica], None],
        files: FilesMode,
    ) -> None:
        self._settings = settings
        self._alerts = alerts
        self._clock = clock
        self._observers = observers
        self._is_dead = is_dead
        self._attach = attach
        self._files = files
        self._vault_is_open = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Where PostgreSQL cannot be used, what that means depends on the replica."""
        directory = vault_directory(self._settings)
        on_files = self._files.read()
        is_fresh = on_files is None and not (directory / "vault.db").exists()
        async with contextlib.AsyncExitStack() as stack:
            self.own = await stack.enter_async_context(
                open_own_database(
                    self._settings,
                    self._server_changed,
                    patience_s=None if is_fresh else START_PATIENCE_S,
                    observers=self._observers._replace(queries=observed(self._observers.queries)),
                )
            )
            self.database = self.own.database
            self.schema = SchemaKeeper(self.database, self._alerts)
            failure = self.own.failure
            if is_fresh:
                # A heartbeat without its table would look like an outage.
                failure = failure or await self.schema.attempt()
                self._refuse(failure)
            self.vault = await stack.enter_async_context(
                open_vault(
                    directory,
                    self.database,
                    vault_options(self._settings),
                    alerts=self._alerts,
                    clock=self._clock,
                    key=vault_key(self._settings),
                    is_dead=self._is_dead,
                    attach=self._attach,
                    detached=on_files,
                )
            )
            self._vault_is_open = True
            await stack.enter_async_context(self._files.standing(self.vault, self.schema))
            if on_files is None:
                await self._tell(failure)
            stack.push_async_callback(cancelled, asyncio.create_task(self.schema.run()))
            yield

    async def _tell(self, failure: StandfastError | None) -> None:
        """What sessions start from."""
        if any(record.complete for record in self.vault.replica.companies()):
            if failure is not None:
                self._alerts.take(alarms.running_from_replica(failure))
            return
        failure = failure or (None if self.schema.is_ready else await self.schema.attempt())
        self._refuse(failure)
        if failure is not None:
            self._alerts.take(alarms.nothing_opens_yet(failure))

    def _refuse(self, failure: StandfastError | None) -> None:
        """With nothing to run from, only what passes by itself is worth waiting for."""
        if failure is not None and (
            self.own.failure is not None or not isinstance(failure, DatabaseUnavailable)
        ):
            raise failure

    def _server_changed(self, failure: StandfastError | None) -> None:
        """The embedded server ended, or runs again."""
        if failure is None:
            supervisor = self.own.supervisor
            self._alerts.take(alarms.server_back(supervisor.restarts if supervisor else 0))
            self._look_at_once()
        else:
            self._alerts.take(alarms.server_ended(failure))
            if self._vault_is_open:
                self.vault.note_failure(failure)

    def _look_at_once(self) -> None:
        cause = self.vault.outage.cause if self._vault_is_open else None
        if cause is not None:
            self.vault.note_failure(cause)


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancel it and see it end."""
    # Before Python 3.12 `asyncio.wait_for`, which the database pool waits with, loses a cancellation that comes
    # together with its result; a loop that catches it only once would then never end.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_INTERVAL_S)


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of them until cancelled; one that fails ends the rest, and its error is raised. A `TaskGroup` would
    cancel each of them once, and wait for ever for one that lost that."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        while pending := [task for task in tasks if not task.done()]:
            for task in pending:
                task.cancel()
            # Whoever cancels this does so again and again; that must not leave the tasks behind.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(pending, timeout=CANCEL_INTERVAL_S)
