"""What a job is given, in a measurement."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import SecretStr

from benchmarks.bench import Bench
from standfast.alert import LoggedAlerts
from standfast.jobs.context import JobContext
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings


@contextlib.asynccontextmanager
async def context_on(bench: Bench, options: DatabaseOptions, root: Path) -> AsyncIterator[JobContext]:
    """What a job is given for that database, with backups in `root`."""
    settings = Settings(
        state_dir=bench.new_directory("state"),
        database_url=SecretStr(options.to_conninfo()),
        backup_root=root,
    )
    async with Database(options) as database:
        yield JobContext(settings, database, LoggedAlerts(), str(uuid.uuid4()), "bench")
