"""Which companies' sessions are wanted, kept in PostgreSQL; and room for a new identity.

Invariant: auth state is removed only after it was exported and only where it is dead or never was paired.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from standfast.authstate.company import Company
from standfast.postgres import sessions_table
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore

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
