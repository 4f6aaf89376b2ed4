"""`SchemaKeeper`: the database's tables brought to this version, now or as soon as PostgreSQL answers.

Invariant: the service never waits on it once it runs, and no attempt follows another without a growing pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from standfast.alert import AlertSink
from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Database
from standfast.service import alarms

log = structlog.get_logger(__name__)
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


class SchemaKeeper:
    """`on_ready` is called whenever the tables have just been found or made complete."""

    def __init__(self, database: Database, alerts: AlertSink) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        self.is_ready = False
        self._database = database
        self._alerts = alerts
        self._needed = asyncio.Event()
        self._needed.set()
        self._allowed = asyncio.Event()
        self._allowed.set()
        self._told: str | None = None
        self._tried = asyncio.Event()
        self._began = time.monotonic()
        self._words = alarms.running_from_replica

    async def attempt(self) -> StandfastError | None:
        """Bring the tables up once; why that failed, or None."""
        try:
            await migrate(self._database)
        except StandfastError as error:
            return error
        finally:
            self._tried.set()
        self.is_ready = True
        self._told, self._words = None, alarms.schema_refused
        self._needed.clear()
        self._alerts.take(alarms.schema_ready())
        return None

    async def tried_within(self, patience_s: float) -> bool:
        """Whether the first attempt has ended, well or not, within that time of the keeper's life."""
        try:
            async with asyncio.timeout(max(0.0, self._began + patience_s - time.monotonic())):
                await self._tried.wait()
        except TimeoutError:
            return False
        return True

    def doubt(self, cause: StandfastError | None) -> None:
        """Look again if what PostgreSQL failed with is that a table or function is missing."""
        if cause is not None and cause.facts.get("cause") == "schema":
            self.is_ready = False
            self._needed.set()

    def pause(self) -> None:
        """Make no attempt until `resume`."""
        self._allowed.clear()

    def resume(self) -> None:
        self._allowed.set()

    async def run(self) -> None:
        """Until cancelled: try for as long as the tables are not known to be complete."""
        pause_s = FIRST_PAUSE_S
        while True:
            await self._needed.wait()
            await self._allowed.wait()
            error = await self._attempted()
            if error is None:
                pause_s = FIRST_PAUSE_S
                self.on_ready()
                continue
            self._tell(error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _attempted(self) -> StandfastError | None:
        try:
            return await self.attempt()
        except Exception as error:
            # This loop must not end: nothing else would ever make the tables.
            log.exception("the schema could not be looked at")
            return StandfastError(f"unexpected failure ({type(error).__name__})")

    def _tell(self, error: StandfastError) -> None:
        """An unreachable PostgreSQL is the outage clock's news; a refusal is told once."""
        if not isinstance(error, DatabaseUnavailable) and error.message != self._told:
            self._told = error.message
            self._alerts.take(self._words(error))
