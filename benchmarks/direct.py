"""A gateway over PostgreSQL alone: what write-through costs. Options: `{"socket", "conninfo"}`.

Invariant: it ends when its standard input does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import uvloop

from benchmarks.child import pause, told_options
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.sessions.gateway import Gateway


async def serve(options: dict[str, Any]) -> None:
    """Serve until told to end."""
    async with Database(DatabaseOptions(conninfo=options["conninfo"])) as database:
        await migrate(database)
        gateway = Gateway(Path(options["socket"]), PostgresAuthStore(database), "benchmark")
        await gateway.start()
        try:
            while await pause():
                pass
        finally:
            await gateway.stop()


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
