"""A vault by itself, without gateway and sessions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.vault.opening import open_vault
from standfast.vault.vault import Vault


@contextlib.asynccontextmanager
async def vault_on(directory: Path, options: DatabaseOptions) -> AsyncIterator[Vault]:
    """A vault whose file lies in `directory`, in front of that database."""
    async with Database(options) as database:
        await migrate(database)
        async with open_vault(directory, database) as vault:
            yield vault
