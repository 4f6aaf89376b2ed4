"""`Exporter`: a company's auth state as a folder, written by the service that holds it.

Invariant: what was acknowledged before the export began is in it, also what PostgreSQL does not have yet.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from standfast.authstate.company import Company
from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.multifile import export_folder
from standfast.errors import CompanyUnknown
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore, Snapshot
from standfast.service.snapshots import current_state
from standfast.vault.vault import Vault


class Exporter:
    """Reads from the vault where this node has the latest, else from PostgreSQL."""

    def __init__(self, vault: Vault, database: Database) -> None:
        self._vault = vault
        self._store = PostgresAuthStore(database)

    async def export(self, company: Company, folder: Path, *, overwrite: bool) -> int:
        """Write the folder; how many keys it holds. `CompanyUnknown` where the company is confirmed absent."""
        found = await current_state(self._vault, self._store, company)
        if found is None:
            raise CompanyUnknown(f"company {company!r} has no auth state")
        await write_snapshot(folder, found, overwrite=overwrite)
        return exported_keys(found)


async def write_snapshot(folder: Path, what: Snapshot, *, overwrite: bool) -> None:
    """Write it in Baileys' multi-file layout, beside the loop."""
    await asyncio.to_thread(export_folder, folder, what.creds, what.keys, overwrite=overwrite)


def exported_keys(what: Snapshot) -> int:
    """How many keys an export of it holds."""
    return sum(len(ids) for key_type, ids in what.keys.items() if not key_type.startswith(OWN_PREFIX))
