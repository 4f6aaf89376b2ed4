"""Opening the database that the settings name: an external server, or the embedded one.

Invariant: the embedded server is started only by a process that holds the state directory, and no command uses
one that another command may stop under it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from psycopg.conninfo import make_conninfo

from standfast.errors import StandfastError, StateDirectoryError
from standfast.postgres.embedded import EmbeddedServer, running_options
from standfast.postgres.observing import NOBODY, Observers
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.supervisor import Supervisor
from standfast.settings import Settings
from standfast.state_dir import Holder, StateDirectory

SERVICE_PURPOSE = "service"
ServerReport = Callable[[StandfastError | None], None]
TURN_TIMEOUT_S = 60.0  # another command, or a service that is just starting, may take this long
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class OwnDatabase:
    """`failure`: why the embedded server's first start failed; it is tried again all the same."""

    database: Database
    supervisor: Supervisor | None
    failure: StandfastError | None


@contextlib.asynccontextmanager
async def open_database(
    settings: Settings,
    *,
    owner: bool = False,
    purpose: str = "command",
    observers: Observers = NOBODY,
) -> AsyncIterator[Database]:
    """The database, opened but not yet asked anything; closed on leaving.

    `owner` is for the service, which holds the state directory already. For anybody else, an embedded server
    that a running service owns is shared, and otherwise one is started and stopped again; `purpose` tells
    others who holds the directory meanwhile.
    """
    async with contextlib.AsyncExitStack() as stack:
        if not settings.database_is_embedded:
            options = _external(settings)
        elif owner:
            server = EmbeddedServer(settings.state_dir, observer=observers.queries)
            options = (await stack.enter_async_context(server)).options
        else:
            options = await _shared_or_started(settings, stack, purpose)
        yield await stack.enter_async_context(
            Database(_limited(options, settings), observers.queries, observers.pool)
        )


@contextlib.asynccontextmanager
async def open_own_database(
    settings: Settings,
    report: ServerReport,
    *,
    patience_s: float | None,
    observers: Observers = NOBODY,
) -> AsyncIterator[OwnDatabase]:
    """The database of a service, which holds the state directory. An embedded server is supervised, and not waited
    for longer than `patience_s` (None: until its first start has succeeded or failed)."""
    async with contextlib.AsyncExitStack() as stack:
        supervisor: Supervisor | None = None
        failure: StandfastError | None = None
        if settings.database_is_embedded:
            server = EmbeddedServer(settings.state_dir, observer=observers.queries)
            options = server.options
            supervisor = Supervisor(server, report)
            stack.push_async_callback(supervisor.stop)
            failure = await supervisor.start(patience_s)
        else:
            options = _external(settings)
        database = await stack.enter_async_context(
            Database(_limited(options, settings), observers.queries, observers.pool)
        )
        yield OwnDatabase(database, supervisor, failure)


def reachable_options(settings: Settings) -> DatabaseOptions | None:
    """How to reach the database as it is, for whoever starts none; None where an embedded server does not run."""
    options = running_options(settings.state_dir) if settings.database_is_embedded else _external(settings)
    return options and _limited(options, settings)


def other_database(settings: Settings, dsn: str) -> Database:
    """Another one than the settings', with their deadlines."""
    return Database(_limited(DatabaseOptions(conninfo=dsn), settings), NOBODY.queries)


def _external(settings: Settings) -> DatabaseOptions:
    parameters = settings.database_parameters()
    # libpq's own variables name the server where there are no parameters.
    return DatabaseOptions(conninfo=make_conninfo("", **parameters) if parameters else None)


def _limited(options: DatabaseOptions, settings: Settings) -> DatabaseOptions:
    return replace(
        options,
        max_connections=settings.postgres_max_connections,
        connect_timeout_s=settings.postgres_connect_timeout_ms / 1000,
        checkout_timeout_s=settings.postgres_checkout_timeout_ms / 1000,
        statement_timeout_s=settings.postgres_statement_timeout_ms / 1000,
    )


async def _shared_or_started(
    settings: Settings, stack: contextlib.AsyncExitStack, purpose: str
) -> DatabaseOptions:
    state = StateDirectory(settings.state_dir)
    state.prepare()
    deadline = time.monotonic() + TURN_TIMEOUT_S
    while True:
        holder = state.holder()
        if holder is None and state.try_acquire(purpose):
            stack.callback(state.release)
            return (await stack.enter_async_context(EmbeddedServer(settings.state_dir))).options
        if holder and holder.purpose == SERVICE_PURPOSE:
            options = running_options(settings.state_dir)
            if options is not None:
                return options
        if time.monotonic() > deadline:
            raise _never_our_turn(state, holder)
        await asyncio.sleep(_POLL_S)


def _never_our_turn(state: StateDirectory, holder: Holder | None) -> StateDirectoryError:
    who = f"pid {holder.pid} ({holder.purpose})" if holder else "another process"
    return StateDirectoryError(
        f"{who} holds {state.path} and lets nobody at its database for {TURN_TIMEOUT_S:g} s",
        next_step="Wait for that process to end, or end it; then try again.",
    )
