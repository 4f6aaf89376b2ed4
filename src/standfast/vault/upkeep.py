"""`Upkeep`: what is looked at every second, and swept every minute.

Invariant: nothing that is journaled is ever swept, nor anything of a company that this node holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import JournalUnwritable, StandfastError
from standfast.vault import alerts as raised
from standfast.vault.outage import State
from standfast.vault.storage.replica import Record
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
TICK_S = 1.0
FIRST_VERIFY_S = 300.0
VERIFY_INTERVAL_S = 86_400.0
GROWING_BYTES = 16 * 2**20
GROWING_AFTER_S = 60.0


class Upkeep:
    """`is_dead` tells whether WhatsApp has ended a company's creds, so that its replica need not be kept."""

    def __init__(self, vault: Vault, alerts: AlertSink, is_dead: Callable[[Company], bool]) -> None:
        self._vault = vault
        self._alerts = alerts
        self._is_dead = is_dead
        self._half_told = self._expiry_told = False
        self._growth_told: dict[Company, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        swept_at = time.monotonic()
        verify_at = swept_at + FIRST_VERIFY_S
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._look_at_grace()
                self._look_at_file()
                self._vault.held.release_idle()
                if time.monotonic() - swept_at >= self._vault.options.sweep_interval_s:
                    swept_at = time.monotonic()
                    await self.sweep()
                if time.monotonic() >= verify_at:
                    verify_at = time.monotonic() + VERIFY_INTERVAL_S
                    # What nobody reads can be damaged as well, and is wanted in an outage.
                    await self._vault.replica.verify()
            except StandfastError as error:
                log.warning("upkeep met an obstacle", error=error.code, reason=error.message)
            except Exception:
                log.exception("upkeep failed unexpectedly")

    def _look_at_grace(self) -> None:
        grace = self._vault.grace
        if self._vault.outage.state is not State.OUTAGE or grace.is_unlimited:
            self._half_told = self._expiry_told = False
            return
        age_s = grace.node_age_s()
        if age_s is None:
            return
        if age_s >= grace.limit_s / 2 and not self._half_told:
            self._half_told = True
            self._alerts.take(raised.grace_half_used(age_s, grace.limit_s))
        if age_s >= grace.limit_s and not self._expiry_told:
            self._expiry_told = True
            held = sum(record.held for record in self._vault.replica.companies())
            self._alerts.take(raised.grace_expired(age_s, grace.limit_s, held))

    def _look_at_file(self) -> None:
        try:
            self._vault.replica.check_writable()
        except JournalUnwritable as error:
            self._vault.note_unwritable(error)
        else:
            self._vault.note_unwritable(None)

    async def sweep(self) -> None:
        """Compact journals that grew, tell about those that keep growing, and drop what is not needed here."""
        replica = self._vault.replica
        records = replica.companies()
        for record in records:
            if record.journal_bytes > self._vault.options.compact_bytes:
                async with self._vault.replicator.halted(record.company):
                    await replica.compact(record.number)
            self._look_at_growth(record)
        idle = [
            r
            for r in records
            if not r.held and not r.journal_batches and self._vault.held.get(r.company) is None
        ]
        for record in idle:
            if self._is_dead(record.company):
                await replica.forget(record.number)
        await self._bound([r for r in idle if not self._is_dead(r.company)])

    def _look_at_growth(self, record: Record) -> None:
        if self._vault.detached is not None:
            return  # it grows by decision
        oldest_s = 0.0 if record.journal_since is None else time.time() - record.journal_since
        if record.journal_bytes < GROWING_BYTES or oldest_s < GROWING_AFTER_S:
            self._growth_told.pop(record.company, None)
            # Said at each sweep: what ended may have been told of by a former process.
            self._alerts.take(raised.journal_carried(record.company, wholly=not record.journal_batches))
        elif record.journal_bytes >= 2 * self._growth_told.get(record.company, GROWING_BYTES // 2):
            self._growth_told[record.company] = record.journal_bytes
            self._alerts.take(
                raised.journal_growing(record.company, record.journal_batches, record.journal_bytes, oldest_s)
            )

    async def _bound(self, idle: list[Record]) -> None:
        """Above the limit, what has not been in use for longest goes first: PostgreSQL has it all."""
        replica = self._vault.replica
        for record in sorted(idle, key=lambda r: r.released_at or 0.0):
            if replica.size_bytes() <= self._vault.options.max_bytes:
                return
            await replica.forget(record.number)
