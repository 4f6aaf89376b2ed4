"""Which companies a database has just as a backup has them.

Invariant: what cannot be compared counts as different.
"""

from __future__ import annotations

from standfast.jobs.backup.digest import DIGEST_METHOD, take_content
from standfast.jobs.backup.manifest import Manifest
from standfast.postgres.pool import Database

_TIMEOUT_S = 900.0


async def same_as(database: Database, manifest: Manifest) -> frozenset[str]:
    """By digest: creds, keys and their times. Reads every row once."""
    if manifest.digest_method != DIGEST_METHOD:
        return frozenset()
    async with database.transaction("restore.compare", _TIMEOUT_S) as connection:
        await connection.execute("set transaction isolation level repeatable read, read only")
        found = await take_content(connection)
    return frozenset(
        company
        for company, content in manifest.companies.items()
        if content.creds and (there := found.companies.get(company)) and there.digest == content.digest
    )
