"""Vaults with a change log beside them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standfast.authstate.company import Company
from standfast.jobs.changelog.folder import Folder
from standfast.jobs.changelog.keeper import ChangeLogKeeper
from standfast.jobs.changelog.state import CompanyState, state_at
from standfast.postgres.options import DatabaseOptions
from standfast.settings import Settings
from standfast.vault.vault import Vault
from tests.integration.vaults import Alerts, Node, node
from tests.support import until

State = dict[str, dict[str, bytes]]


@dataclass
class Logged:
    """A node, its vault and the log that is kept of it. `clock` is what the log believes the time to be."""

    node: Node
    keeper: ChangeLogKeeper
    settings: Settings

    @property
    def vault(self) -> Vault:
        return self.node.vault

    @property
    def alerts(self) -> Alerts:
        return self.node.alerts

    @property
    def folder(self) -> Folder:
        return Folder(self.settings.backup_directory / "changes" / self.vault.replica.node)

    async def written(self) -> None:
        """Everything that happened until now is in segments."""
        for _ in range(2):  # what is to be known by a snapshot is found out by the first
            await self.keeper.tick(1.0, everything=True)

    def state(self, company: Company) -> State:
        """What the store holds now."""
        record = self.vault.replica.record(company)
        assert record is not None
        return held(self.vault, record.number)


def held(vault: Vault, number: int) -> State:
    everything = vault.replica.everything(number)
    keys = {
        key_type: {key_id: value for key_id, value in ids.items() if value is not None}
        for key_type, ids in everything.keys.items()
    }
    found = {key_type: ids for key_type, ids in keys.items() if ids}
    return found if everything.creds is None else found | {"": {"": everything.creds}}


def state_of(state: CompanyState | None) -> State | None:
    """In the same form."""
    if state is None:
        return None
    found = {key_type: ids for key_type, ids in state.keys.items() if ids}
    return found if state.creds is None else found | {"": {"": state.creds}}


def log_settings(directory: Path, backups: Path, **more: Any) -> Settings:
    directory.mkdir(mode=0o700, exist_ok=True)
    return Settings(state_dir=directory, backup_root=backups, **{"change_log_segment_s": 0.4, **more})


@contextlib.asynccontextmanager
async def logged(
    settings: Settings, options: DatabaseOptions, *, ticking: bool = False, **more: Any
) -> AsyncIterator[Logged]:
    """A node whose vault and change log are where the settings say; `ticking`: its log is written by itself."""
    async with node(settings.state_dir / "vault", options, **more) as opened:
        keeper = ChangeLogKeeper(settings, opened.vault.replica, opened.alerts, "one")
        keeper.attach()
        running = asyncio.create_task(keeper.run()) if ticking else None
        try:
            yield Logged(opened, keeper, settings)
        finally:
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await keeper.close()


async def next_second() -> float:
    """Wait until a second has begun; that moment."""
    begins = float(int(time.time()) + 1)
    await until(lambda: time.time() >= begins + 0.05)  # by then the log has taken what was before
    return begins


async def latest(settings: Settings, company: Company) -> State | None:
    return state_of(await state_at(settings, company))
