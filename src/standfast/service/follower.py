"""`DatabaseFollower`: what the service does when PostgreSQL goes and when it comes back.

Invariant: one line of the log for each change; once PostgreSQL is back the roster is told and asked, and what waited
for it is started.
"""

from __future__ import annotations

import asyncio

import structlog

from standfast.errors import StandfastError
from standfast.service.roster import VaultRoster
from standfast.service.schema import SchemaKeeper
from standfast.sessions.pool import SessionPool
from standfast.vault.outage import State
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
RETRY_S = 2.0
_ANSWERING = frozenset({State.ONLINE, State.RECOVERING})


class DatabaseFollower:
    """`pool` is None where this service runs no sessions of its own."""

    def __init__(
        self, vault: Vault, roster: VaultRoster, schema: SchemaKeeper, pool: SessionPool | None
    ) -> None:
        self._vault = vault
        self._roster = roster
        self._schema = schema
        self._pool = pool
        self._changed = asyncio.Event()
        self._anew = False
        vault.outage.changed(self._note)
        schema.on_ready = self._schema_ready

    def _note(self, state: State) -> None:
        cause = self._vault.outage.cause
        log.info("database", state=state.value, reason=cause.message if cause else None)
        self._schema.doubt(cause)
        self._changed.set()

    def _schema_ready(self) -> None:
        """What failed for want of a table may work now: look at once, and start again what is wanted."""
        self._anew = True
        self._changed.set()
        cause = self._vault.outage.cause
        if self._vault.outage.state is State.OUTAGE and cause is not None:
            self._vault.note_failure(cause)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._vault.outage.state not in _ANSWERING:
                continue
            try:
                await self._back()
            except StandfastError as error:
                log.warning("the roster waits for PostgreSQL", error=error.code, reason=error.message)
                await asyncio.sleep(RETRY_S)
                self._changed.set()
            except Exception:
                log.exception("following the database failed unexpectedly")
                await asyncio.sleep(RETRY_S)

    async def _back(self) -> None:
        anew = self._anew or not self._roster.asked
        await self._roster.bring()
        self._anew = False
        if self._pool is None:
            return
        if anew:
            await self._pool.start_wanted()
        self._pool.retry_now()
