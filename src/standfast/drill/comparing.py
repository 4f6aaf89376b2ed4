"""What PostgreSQL has against what the vault has, key by key.

Invariant: every key and the creds are compared by their canonical content; an absence is never taken for agreement.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from standfast.authstate.buffer_json import canonical, parse
from standfast.authstate.company import company_id
from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.multifile import import_folder
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.service.client import Client

_CREDS = ("creds", "")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of its own is made there, 0700


async def differences(client: Client, options: DatabaseOptions, company: str) -> tuple[int, int]:
    """How many keys the service has of `company`, and how many of them, or of PostgreSQL's, are not the same there."""
    with tempfile.TemporaryDirectory(prefix="standfast-drill-", dir=_memory()) as scratch:
        folder = Path(scratch) / company
        await client.export(company, folder)
        ours = await asyncio.to_thread(_of_folder, folder)
    own = replace(options, application_name="standfast-drill", max_connections=1)
    async with Database(own, NOBODY.queries) as database:
        found = await PostgresAuthStore(database).snapshot(company_id(company))
    theirs = {} if found is None else _flat(found.creds, found.keys)
    differ = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    return len(ours) - 1, len(differ)


def _memory() -> Path | None:
    """An export syncs a thousand files, which no disk is asked for here."""
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None


def _of_folder(folder: Path) -> dict[tuple[str, str], Any]:
    found = import_folder(folder)
    return _flat(found.creds, found.keys)


def _flat(creds: bytes, keys: dict[str, dict[str, bytes]]) -> dict[tuple[str, str], Any]:
    rows = {
        (key_type, key_id): canonical(parse(value))
        for key_type, ids in keys.items()
        if not key_type.startswith(OWN_PREFIX)
        for key_id, value in ids.items()
    }
    return {_CREDS: canonical(parse(creds)), **rows}
