"""The node that goes to files: in the process that has the vault, a running service's or that of a command.

Invariant: a company that was fetched for the switch stays open here until the switch has ended, so that nobody else
takes it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from standfast.alert import AlertSink
from standfast.authstate.change import Change
from standfast.authstate.company import Company, company_id
from standfast.errors import AuthStateCorrupt, CompanyUnknown, EmergencyRefused, StandfastError
from standfast.jobs.emergency.files_node import FilesNode, FilesStanding, Held, Written
from standfast.jobs.emergency.folders import Folders
from standfast.jobs.emergency.mirror import fill
from standfast.jobs.emergency.mode import Mode
from standfast.jobs.emergency.past import Past
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.observing import NOBODY
from standfast.postgres.pool import Database, Statement
from standfast.service.database import reachable_options
from standfast.service.files_mode import FilesMode
from standfast.service.link import Link
from standfast.service.offline import held_directory, service_runs
from standfast.service.schema import SchemaKeeper
from standfast.service.snapshots import snapshot_of
from standfast.service.to_files_methods import ServiceFiles
from standfast.service.vault import vault_directory, vault_key, vault_options
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault.holdings import ANSWERING
from standfast.vault.opening import open_vault
from standfast.vault.outage import State
from standfast.vault.vault import Vault

PURPOSE = "emergency"
LOOK_TIMEOUT_S = 2.0
_DECIDED = frozenset({State.ONLINE, State.OUTAGE})
_ELSEWHERE = Statement(
    "emergency.elsewhere",
    """
    select a.company_id, case when n.alive_until > now() and n.node <> $1::uuid then coalesce(n.name, '?') else '' end
    from whatsapp_auth a left join standfast_writers w using (company_id) left join standfast_nodes n on n.node = w.node
    """,
)


class LocalFiles:
    """See `FilesNode`: in the process that has the vault. It runs no sessions itself."""

    def __init__(self, vault: Vault, database: Database, files: FilesMode, past: Past) -> None:
        self._vault = vault
        self._past = past
        self._recalled: set[Company] = set()
        self._database = database
        self._files = files
        self._fetched: set[Company] = set()
        self._writing: set[asyncio.Task[int]] = set()
        self._given_up: str | None = None

    async def standing(self) -> FilesStanding:
        vault = self._vault
        amounts = vault.replica.amounts()
        held = [
            Held(
                record.company,
                record.epoch,
                record.sequence,
                record.complete and record.has_creds,
                *amounts.get(record.number, (0, 0)),
            )
            for record in vault.replica.companies()
        ]
        ours = {record.company for record in vault.replica.companies() if record.held}
        # A whole copy of a company that is not held is of the time when it was given back: PostgreSQL knows.
        elsewhere = await self._elsewhere({one.company for one in held if one.whole and one.company in ours})
        if elsewhere is not None:
            held = [one for one in held if one.company not in elsewhere]
        # Where PostgreSQL answers it decides who exists: what it lacks was removed.
        whole = {one.company for one in held if one.whole}
        past = await self._past.offers(whole) if elsewhere is None else {}
        cause = vault.outage.cause
        return FilesStanding(
            self._files.mode,
            vault.options.node_name,
            vault.outage.state.value,
            cause.message if cause is not None else "",
            held,
            elsewhere=elsewhere,
            past=past,
        )

    async def _elsewhere(self, known: set[str]) -> dict[str, str] | None:
        if self._vault.outage.state not in ANSWERING:
            return None
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                rows = await self._database.fetch(_ELSEWHERE, [self._vault.replica.node])
        except (TimeoutError, StandfastError):
            return None
        return {company: holder for company, holder in rows if company not in known}

    async def prepare(self, switch: str, root: str, files: int, size_bytes: int) -> None:
        self._files.file.refuse_on_files()
        self._vault.check_writable()
        folders = Folders(Path(root))

        def prepare() -> None:
            folders.prepare()
            folders.recover(None)
            folders.check_room(files, size_bytes)
            folders.staging(switch)

        await asyncio.to_thread(self._files.begun.note, Path(root))
        await asyncio.to_thread(prepare)

    async def fetch(self, company: str) -> None:
        known = company_id(company)
        creds = await self._vault.open(known)
        self._fetched.add(known)
        if creds is None:
            raise CompanyUnknown(f"PostgreSQL has no creds of {company}")

    async def recall(self, company: str, source: str) -> None:
        known = company_id(company)
        state = await self._past.state(known, source)
        self._recalled.add(known)
        keys: dict[str, dict[str, bytes | None]] = {
            key_type: dict(ids) for key_type, ids in state.keys.items()
        }
        await fill(self._vault, known, state.epoch, state.sequence, Change(keys=keys, creds=state.creds))

    async def write(self, switch: str, root: str, company: str) -> Written:
        known, replica = company_id(company), self._vault.replica
        record = replica.record(known)
        if record is None or not record.complete:
            raise AuthStateCorrupt(f"the replica of {company} is not whole")
        state = snapshot_of(replica.everything(record.number))
        if state is None:
            raise AuthStateCorrupt(f"the replica of {company} has no creds")
        folders = Folders(Path(root))

        def write() -> int:
            count = folders.write(switch, known, state.creds, state.keys, record.epoch, record.sequence)
            folders.check(switch, known, count)
            return count

        if switch == self._given_up:
            raise EmergencyRefused("this switch to files was given up")
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        try:
            files = await asyncio.shield(task)
        except AuthStateCorrupt as error:
            raise AuthStateCorrupt(
                f"the state of {company} is damaged: {error.message}",
                next_step=f"Look at it: standfast verify {company}. To go without it: --leave-out {company}",
            ) from error
        return Written(record.epoch, record.sequence, files)

    async def commit(self, mode: Mode) -> list[str]:
        folders = Folders(Path(mode.root))
        named = [company_id(one) for one in mode.companies]
        kept = await asyncio.to_thread(folders.place, mode.id, named)
        try:
            await self._files.enter(mode)
        except BaseException:
            await asyncio.to_thread(folders.undo, mode.id)
            raise
        self._recalled.clear()
        self._let_go()
        await asyncio.to_thread(folders.done, mode.id)
        await asyncio.to_thread(self._files.begun.forget)
        return list(kept)

    async def abandon(self, switch: str, root: str) -> None:
        self._given_up = switch
        self._let_go()
        if self._writing:
            # It would write where nothing is to be left.
            await asyncio.gather(*self._writing, return_exceptions=True)
        if self._files.mode is None or self._files.mode.id != switch:
            await asyncio.to_thread(Folders(Path(root)).abandon, switch)
            await self._forget_recalled()
            await asyncio.to_thread(self._files.begun.forget)

    async def _forget_recalled(self) -> None:
        """A state of the past counts only once somebody has agreed to it."""
        for company in self._recalled:
            record = self._vault.replica.record(company)
            if record is not None and not record.journal_batches:
                await self._vault.replica.forget(record.number)
        self._recalled.clear()

    def _let_go(self) -> None:
        for company in self._fetched:
            self._vault.release(company)
        self._fetched.clear()

    async def flush(self) -> None:
        await self._files.flush()

    async def reconnect(self, company: str) -> None:
        raise EmergencyRefused("no service runs here, so there is no session to connect")

    async def sessions(self) -> Mapping[str, str]:
        return {}

    async def wanted(self, companies: Iterable[str]) -> list[str]:
        return []


@contextlib.asynccontextmanager
async def files_node(settings: Settings, alerts: AlertSink) -> AsyncIterator[tuple[FilesNode, bool]]:
    """The node, and whether a service runs. Without one this process holds the state directory meanwhile; PostgreSQL is
    asked where it answers, and an embedded server is not started for it."""
    if service_runs(settings):
        link = Link(StateDirectory(settings.state_dir).gateway_socket)
        try:
            await link.open()
            yield ServiceFiles(link), True
        finally:
            link.close()
        return
    files = FilesMode(settings, alerts)
    detached = files.read()
    options = reachable_options(settings) or EmbeddedServer(settings.state_dir).options
    async with (
        held_directory(settings, PURPOSE),
        Database(options, NOBODY.queries) as database,
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
        await vault.outage.wait_for(_DECIDED, LOOK_TIMEOUT_S)
        past = Past(settings, vault.options.node_name)
        yield LocalFiles(vault, database, files, past), False
