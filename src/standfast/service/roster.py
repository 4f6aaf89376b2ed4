"""Which companies' sessions are wanted, kept in PostgreSQL; and room for a new identity.

Invariant: auth state is removed only after it was exported and only where it is dead or never was paired.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog

from standfast.authstate.company import Company
from standfast.authstate.creds import parse_creds
from standfast.authstate.multifile import export_folder
from standfast.errors import CompanyUnknown, PairingFailed
from standfast.postgres import sessions_table
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore, Snapshot

log = structlog.get_logger(__name__)


class DatabaseRoster:
    """See `standfast.sessions.pool.Roster`."""

    def __init__(self, database: Database, store: PostgresAuthStore, archive: Path) -> None:
        self._database = database
        self._store = store
        self._archive = archive

    async def wanted(self) -> list[Company]:
        return await sessions_table.list_wanted(self._database)

    async def want(self, company: Company, wanted: bool) -> None:
        await sessions_table.set_wanted(self._database, company, wanted)

    async def linked(self, company: Company) -> None:
        await sessions_table.set_linked(self._database, company)

    async def unlinked(self, company: Company) -> None:
        await sessions_table.set_unlinked(self._database, company)

    async def check_known(self, company: Company) -> None:
        if await self._store.load_creds(company) is None:
            raise CompanyUnknown(f"company {company!r} has no auth state")

    async def check_pairing(self, company: Company) -> None:
        await self._dead_state(company)

    async def prepare_pairing(self, company: Company) -> None:
        snapshot = await self._dead_state(company)
        if snapshot is None:
            return
        folder = await self._archived(company, snapshot)
        await self._store.remove(company)
        log.info("dead auth state archived and removed", company=company, folder=str(folder))

    async def _dead_state(self, company: Company) -> Snapshot | None:
        """The auth state that a new pairing would replace; None where there is none that was ever paired."""
        snapshot = await self._store.snapshot(company)
        if snapshot is None or not parse_creds(snapshot.creds).is_registered:
            return None
        if not await sessions_table.is_unlinked(self._database, company):
            raise PairingFailed(
                f"company {company!r} is paired already",
                next_step=f"Start it: 'standfast start {company}'; or unlink it first: 'standfast logout {company}'.",
            )
        return snapshot

    async def _archived(self, company: Company, snapshot: Snapshot) -> Path:
        """Export what is about to be removed, below the state directory."""
        self._archive.mkdir(mode=0o700, exist_ok=True)
        folder = self._archive / f"{company}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        await asyncio.to_thread(export_folder, folder, snapshot.creds, snapshot.keys)
        return folder
