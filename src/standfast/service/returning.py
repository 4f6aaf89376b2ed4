"""The node that goes back from files to PostgreSQL: a running service's, or that of a state directory that none holds.

Invariant: without a service, this process holds the state directory for as long as the way back goes on; the node
stands on files in it exactly as a service would.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from standfast.alert import Alert, AlertSink
from standfast.authstate.company import company_id
from standfast.authstate.creds import identity_key
from standfast.errors import AuthStateCorrupt, EmergencyRefused
from standfast.jobs.context import JobContext
from standfast.jobs.emergency.comparison import Kept
from standfast.jobs.emergency.mode import Mode
from standfast.jobs.emergency.return_look import not_on_files
from standfast.jobs.emergency.return_node import Brought, NodeStanding, ReturnNode
from standfast.jobs.progress import Progress
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.putting_back import Seen
from standfast.service.database import open_database, reachable_options
from standfast.service.files_mode import FilesMode
from standfast.service.link import Link
from standfast.service.offline import held_directory, service_runs
from standfast.service.return_methods import ServiceReturn
from standfast.service.schema import SchemaKeeper
from standfast.service.vault import vault_directory, vault_key, vault_options
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault.opening import open_vault
from standfast.vault.outage import State
from standfast.vault.restoring import keep_state
from standfast.vault.returning import Returning
from standfast.vault.storage.replica import Record
from standfast.vault.vault import Vault

PURPOSE = "emergency"
BEATEN_TIMEOUT_S = 6.0  # in an outage heartbeats have pauses of at most 3 s
_POLL_S = 0.02
_NO_SERVER = "Start the embedded server: it runs with the service, so look at 'standfast status' and its log."


class LocalReturn:
    """See `ReturnNode`: in the process that has the vault."""

    def __init__(self, vault: Vault, database: Database, files: FilesMode) -> None:
        self._vault = vault
        self._files = files
        self._returning = Returning(vault, database)
        self._noting = asyncio.Lock()
        self._done: list[str] = []

    async def standing(self) -> NodeStanding:
        vault, mode = self._vault, self._files.mode
        placed = set(mode.companies) if mode is not None else set()
        kept = [
            self._kept(record)
            for record in vault.replica.companies()
            if record.company in placed or self._is_used(record)
        ]
        lacking = placed - {one.company for one in kept}
        kept.extend(Kept(company, 0, 0, is_whole=False) for company in sorted(lacking))
        return NodeStanding(mode, vault.replica.node, vault.options.node_name, vault.replica.database, kept)

    def _is_used(self, record: Record) -> bool:
        holding = self._vault.held.get(record.company)
        return record.journal_batches > 0 or (holding is not None and holding.is_open)

    def _kept(self, record: Record) -> Kept:
        identity, withheld = "", self._vault.held.withheld.get(record.company)
        is_whole = record.complete and record.has_creds
        with contextlib.suppress(AuthStateCorrupt):
            creds = self._vault.replica.creds(record.number) if is_whole else None
            identity = identity_key(creds).hex() if creds is not None else ""
        why = f"{withheld.message}. {withheld.next_step}" if withheld is not None else ""
        return Kept(record.company, record.epoch, record.sequence, is_whole and bool(identity), identity, why)

    async def begin(self) -> None:
        async with self._noting:
            mode = self._mode()
            if mode.stage != "to-postgres":
                await self._files.note(msgspec.structs.replace(mode, stage="to-postgres"))

    async def bind(self, database: str) -> None:
        await self._vault.replica.bind(database)

    async def beaten(self) -> bool:
        vault, end = self._vault, asyncio.get_running_loop().time() + BEATEN_TIMEOUT_S
        while vault.outage.answered is not True:
            if asyncio.get_running_loop().time() > end:
                return False
            if vault.detached is not None:
                vault.note_failure(vault.detached)  # PostgreSQL is looked at now, not when a pause is over
            await asyncio.sleep(_POLL_S * 10)
        return True

    async def is_same(self, company: str) -> bool:
        return await self._returning.is_same(company_id(company))

    async def put_back(self, company: str, seen: Seen) -> Brought:
        self._mode()
        returned = await self._returning.put_back(company_id(company), seen)
        await self._note_done(company)
        return Brought(returned.epoch, returned.sequence, returned.keys)

    async def keep(self, company: str, folder: Path) -> bool:
        return await keep_state(self._vault.replica, company_id(company), folder)

    async def give_up(self, company: str) -> bool:
        self._mode()
        has_it = await self._returning.give_up(company_id(company))
        await self._note_done(company)
        return has_it

    async def leave(self) -> None:
        await self._files.leave()

    async def recovered(self, timeout_s: float) -> bool:
        return await self._vault.outage.wait_for({State.ONLINE}, timeout_s)

    async def sessions(self) -> Mapping[str, str]:
        return {}

    async def _note_done(self, company: str) -> None:
        """Those that are done while the file is written go into it together, the next time."""
        self._done.append(company)
        async with self._noting:
            mode, done = self._mode(), dict.fromkeys(self._done)
            fresh = [one for one in done if one not in mode.done]
            if fresh:
                await self._files.note(msgspec.structs.replace(mode, done=[*mode.done, *fresh]))
            self._done = [one for one in self._done if one not in done]

    def _mode(self) -> Mode:
        if self._files.mode is None:
            raise not_on_files()
        return self._files.mode


class _Untold:
    """Takes alerts, and tells nobody."""

    def take(self, alert: Alert) -> None:
        pass


@contextlib.asynccontextmanager
async def returning_context(
    settings: Settings, progress: Progress, alerts: AlertSink
) -> AsyncIterator[tuple[JobContext, ReturnNode]]:
    """What the way back runs with."""
    name = vault_options(settings).node_name
    if service_runs(settings):
        link = Link(StateDirectory(settings.state_dir).gateway_socket)
        try:
            await link.open()
            async with Database(_reachable(settings), NOBODY.queries) as database:
                yield (
                    JobContext(settings, database, alerts, str(uuid.uuid4()), name, progress),
                    ServiceReturn(link),
                )
        finally:
            link.close()
        return
    async with held_directory(settings, PURPOSE), _standing_here(settings, alerts) as (database, node):
        yield JobContext(settings, database, alerts, str(uuid.uuid4()), name, progress), node


@contextlib.asynccontextmanager
async def folders_context(
    settings: Settings, progress: Progress, alerts: AlertSink
) -> AsyncIterator[JobContext]:
    """What runs where nothing is left but folders: no vault takes part. Without a service, none starts meanwhile."""
    name = vault_options(settings).node_name
    async with contextlib.AsyncExitStack() as stack:
        if service_runs(settings):
            database = await stack.enter_async_context(Database(_reachable(settings), NOBODY.queries))
        else:
            await stack.enter_async_context(held_directory(settings, PURPOSE))
            database = await stack.enter_async_context(open_database(settings, owner=True))
        yield JobContext(settings, database, alerts, str(uuid.uuid4()), name, progress)


def _reachable(settings: Settings) -> DatabaseOptions:
    options = reachable_options(settings)
    if options is None:
        raise EmergencyRefused(
            "PostgreSQL is still away, so nothing changes: the embedded server does not run",
            next_step=_NO_SERVER,
        )
    return options


@contextlib.asynccontextmanager
async def _standing_here(settings: Settings, alerts: AlertSink) -> AsyncIterator[tuple[Database, ReturnNode]]:
    # Of its mode only a service tells: what this process does is shown to whoever runs it.
    files = FilesMode(settings, _Untold())
    detached = files.read()
    if detached is None:
        raise not_on_files()
    async with (
        open_database(settings, owner=True) as database,
        open_vault(
            vault_directory(settings),
            database,
            vault_options(settings),
            alerts=alerts,
            key=vault_key(settings),
            detached=detached,
        ) as vault,
        files.standing(vault, SchemaKeeper(database, alerts)),
    ):
        yield database, LocalReturn(vault, database, files)
