"""The node that a restore works with: a running service's, or the vault of a state directory that none holds.

Invariant: without a service, this process holds the state directory for as long as a restore goes on, so that none
can start amid it.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from standfast.alert import AlertSink
from standfast.authstate.company import Company, company_id
from standfast.jobs.context import JobContext
from standfast.jobs.emergency.mode import ModeFile
from standfast.jobs.progress import Progress
from standfast.jobs.restore.node import LocalNode, Standing
from standfast.postgres.pool import Database
from standfast.service.database import open_database, other_database
from standfast.service.job_context import command_context
from standfast.service.link import Link
from standfast.service.offline import held_directory, service_runs
from standfast.service.restore_methods import standing_of
from standfast.service.vault import vault_directory, vault_key, vault_options
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault import alerts as raised
from standfast.vault.opening import open_vault
from standfast.vault.restoring import Restoring, keep_state
from standfast.vault.storage.replica import Replica
from standfast.vault.vault import Vault

PURPOSE = "restore"
_AT_ONCE = 8
_HOLD_TIMEOUT_S = 45.0
_STEP_TIMEOUT_S = 120.0


class ServiceNode:
    """See `LocalNode`: asks the service that runs in the state directory, over one connection all the time."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def standing(self) -> Standing:
        return msgspec.json.decode(
            await self._link.request("restore.standing", {}, _STEP_TIMEOUT_S), type=Standing
        )

    async def hold(self, companies: Iterable[str]) -> None:
        await self._each("restore.hold", {one: {} for one in companies}, _HOLD_TIMEOUT_S)

    async def replay(self, company: str) -> int:
        answer = await self._each("restore.replay", {company: {}}, _STEP_TIMEOUT_S)
        return int(answer[company]["keys"])

    async def renew(self, company: str) -> None:
        await self._each("restore.renew", {company: {}}, _STEP_TIMEOUT_S)

    async def keep(self, company: str, folder: Path) -> bool:
        answer = await self._each("restore.keep", {company: {"folder": str(folder)}}, _STEP_TIMEOUT_S)
        return bool(answer[company]["kept"])

    async def let_go(self, companies: Iterable[str], start: Iterable[str]) -> Mapping[str, str]:
        starting = set(start)
        asked = {one: {"start": one in starting} for one in companies}
        answers = await self._each("restore.let_go", asked, _HOLD_TIMEOUT_S)
        return {company: answer["session"] for company, answer in answers.items() if answer["session"]}

    async def _each(
        self, method: str, asked: Mapping[str, Mapping[str, Any]], timeout_s: float
    ) -> dict[str, Any]:
        """The answer for each company; all are waited for before the first error is raised."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def ask(company: str, params: Mapping[str, Any]) -> Any:
            async with turns:
                raw = await self._link.request(method, {"company": company, **params}, timeout_s)
                return msgspec.json.decode(raw)

        answers = await asyncio.gather(*(ask(*one) for one in asked.items()), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return dict(zip(asked, answers, strict=True))


class DirectoryNode:
    """See `LocalNode`: works on the vault's file, while this process holds the directory. The vault is opened with
    the first company that needs one: before the database is what the replica is of, it would begin anew with it."""

    def __init__(self, settings: Settings, database: Database, alerts: AlertSink) -> None:
        self._settings = settings
        self._database = database
        self._alerts = alerts
        self._directory = vault_directory(settings)
        self._stack = contextlib.AsyncExitStack()
        self._vault: Vault | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def standing(self) -> Standing | None:
        if not self._is_there():
            return None
        name = vault_options(self._settings).node_name
        async with self._replica() as replica:
            return standing_of(replica, name, _nobody)

    async def hold(self, companies: Iterable[str]) -> None:
        """No service runs, and none starts while this process holds the directory."""

    async def replay(self, company: str) -> int:
        return await (await self._restoring()).replay(company_id(company))

    async def renew(self, company: str) -> None:
        if self._is_there():
            await (await self._restoring()).renew(company_id(company))

    async def keep(self, company: str, folder: Path) -> bool:
        if not self._is_there():
            return False
        async with self._replica() as replica:
            return await keep_state(replica, company_id(company), folder)

    async def let_go(self, companies: Iterable[str], start: Iterable[str]) -> Mapping[str, str]:
        return {}

    def _is_there(self) -> bool:
        return (self._directory / "vault.db").exists()

    @contextlib.asynccontextmanager
    async def _replica(self) -> AsyncIterator[Replica]:
        """The vault's where there is one by now."""
        if self._vault is not None:
            yield self._vault.replica
            return
        replica = Replica.open(
            self._directory,
            vault_key(self._settings),
            on_damage=lambda damage: self._alerts.take(raised.replica_corrupt(damage)),
        )
        try:
            yield replica
        finally:
            await replica.close()

    async def _restoring(self) -> Restoring:
        if self._vault is None:
            self._vault = await self._stack.enter_async_context(
                open_vault(
                    self._directory,
                    self._database,
                    vault_options(self._settings),
                    alerts=self._alerts,
                    key=vault_key(self._settings),
                )
            )
        return Restoring(self._vault)


@contextlib.asynccontextmanager
async def restoring_context(
    settings: Settings, progress: Progress, alerts: AlertSink, to: str | None
) -> AsyncIterator[tuple[JobContext, LocalNode | None]]:
    """What a restore runs with. `to`: another database, which no node is concerned with."""
    if to is not None:
        async with other_database(settings, to) as database:
            name = vault_options(settings).node_name
            yield JobContext(settings, database, alerts, str(uuid.uuid4()), name, progress), None
        return
    ModeFile(settings.state_dir).refuse_on_files()
    if service_runs(settings):
        link = Link(StateDirectory(settings.state_dir).gateway_socket)
        try:
            await link.open()
            async with command_context(settings, PURPOSE, progress, alerts) as context:
                yield context, ServiceNode(link)
        finally:
            link.close()
    else:
        async with (
            held_directory(settings, PURPOSE),
            open_database(settings, owner=True) as database,
            DirectoryNode(settings, database, alerts) as node,
        ):
            name = vault_options(settings).node_name
            yield JobContext(settings, database, alerts, str(uuid.uuid4()), name, progress), node


def _nobody(_company: Company) -> None:
    return None
