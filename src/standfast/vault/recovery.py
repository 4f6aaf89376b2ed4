"""`Recovery`: what happens when PostgreSQL goes and when it comes back.

Invariant: `online` after an outage means that every lease was looked at again and every journal is empty, but for
those that PostgreSQL refuses.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from standfast.alert import AlertSink
from standfast.errors import DatabaseRejected, DatabaseUnavailable, StandfastError
from standfast.postgres.leases import Heartbeat
from standfast.vault import alerts as raised
from standfast.vault.heartbeat import HeartbeatLoop
from standfast.vault.holding import Holding
from standfast.vault.outage import State
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
SETTLING_AT_ONCE = 16
_POLL_S = 0.02
_RETRY_S = 1.0
_SHARED_TOLD_FOR_S = 60.0
_BACK = frozenset({State.ONLINE, State.RECOVERING})


class Recovery:
    """Follows the vault's outage clock and listens to the heartbeat; `run` until cancelled."""

    def __init__(self, vault: Vault, heartbeat: HeartbeatLoop, alerts: AlertSink) -> None:
        self._vault = vault
        self._heartbeat = heartbeat
        self._alerts = alerts
        self._away_since: float | None = None
        self._carried_before = 0
        self._doubt = asyncio.Event()
        self._looked = False
        self._foreign: str | None = None
        self._foreign_told = False
        self._unbound: str | None = None
        self._shared_at: float | None = None
        self._own_told = self._alone_told = False
        self._began = time.monotonic()
        self._wake = asyncio.Event()
        vault.outage.changed(self._changed)
        heartbeat.on_revision = self._revised
        heartbeat.accept = self._accept

    def _revised(self) -> None:
        """Another node took something from this one: look at every lease."""
        self._doubt.set()
        self._wake.set()

    def _accept(self, heartbeat: Heartbeat) -> None:
        """Refuses the answer of another database than the one that the replica belongs to."""
        if heartbeat.shared:
            self._tell_shared()
        else:
            self._tell_alone()
        bound = self._vault.replica.database
        if bound in (None, heartbeat.database):
            self._foreign, self._foreign_told = None, False
            self._vault.held.barred = None
            if not self._own_told:
                self._own_told = True
                self._alerts.take(raised.own_database())
            if bound is None:
                self._unbound = heartbeat.database
                self._wake.set()
            return
        refusal = DatabaseRejected(
            "PostgreSQL answers at this address, but it is another database than the one that this node's replica "
            "belongs to; nothing is read from it or written to it",
            next_step="Correct DATABASE_URL (or POSTGRES_*). Where the former server is lost and this is the new one: "
            "'standfast runbook loss', before any restart. Where this one is meant as it is: restart this node.",
            cause="foreign_database",
        )
        if self._vault.detached is None:
            self._foreign, self._vault.held.barred = heartbeat.database, refusal
            self._wake.set()
        raise refusal

    def _tell_shared(self) -> None:
        """Once, and once more where it comes again later."""
        former, self._shared_at = self._shared_at, time.monotonic()
        self._alone_told = False
        if former is None or self._shared_at - former > _SHARED_TOLD_FOR_S:
            self._alerts.take(raised.node_shared(self._vault.options.node_name))

    def _tell_alone(self) -> None:
        """Once nobody else has spoken for this node for a while."""
        seen_at = self._began if self._shared_at is None else self._shared_at
        if not self._alone_told and time.monotonic() - seen_at > _SHARED_TOLD_FOR_S:
            self._alone_told = True
            self._alerts.take(raised.node_alone())

    def _changed(self, _state: State) -> None:
        outage = self._vault.outage
        if outage.state is State.ONLINE and self._away_since is None:
            # An outage that a former process told of is over; one of this process ends with its report.
            self._alerts.take(raised.database_stands())
        if outage.state is State.OUTAGE and self._away_since is None:
            self._away_since = time.monotonic()
            self._carried_before = self._vault.replicator.carried.batches
            if outage.detached is None:
                self._alerts.take(raised.outage_began(outage.cause))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._follow()
            except StandfastError as error:
                self._vault.note_failure(error)
                await self._again()
            except Exception:
                log.exception("recovery failed unexpectedly")
                await self._again()

    async def _follow(self) -> None:
        vault = self._vault
        if vault.detached is not None:
            return
        if self._foreign is not None:
            await self._start_over(self._foreign)
        elif self._unbound is not None and vault.replica.database is None:
            await vault.replica.bind(self._unbound)
        state = vault.outage.state
        if state in _BACK and (state is State.RECOVERING or not self._looked or self._doubt.is_set()):
            await self._recover()

    async def _start_over(self, database: str) -> None:
        """Belong to another database, once nobody has a company open: the former replica is kept as a copy."""
        vault = self._vault
        records = vault.replica.companies()
        journaled = sum(record.journal_batches > 0 for record in records)
        if any(holding.is_open for holding in vault.holdings()):
            if not self._foreign_told:
                self._foreign_told, self._own_told = True, False
                self._alerts.take(raised.foreign_database(len(records), journaled, None))
            return
        copy = await vault.replica.copy_aside() if records else None
        for record in records:
            holding = vault.held.adopt(record.company)
            await vault.keeper.fence(holding, "the node belongs to another database now")
            vault.held.dismiss(holding)
        await vault.replica.bind(database)
        self._foreign = None
        if records:
            self._alerts.take(raised.foreign_database(len(records), journaled, copy))
        self._heartbeat.probe_now()

    async def _again(self) -> None:
        await asyncio.sleep(_RETRY_S)
        self._wake.set()

    async def _recover(self) -> None:
        self._doubt.clear()
        await self._settle_doubtful()
        self._looked = True
        while self._vault.outage.state is State.RECOVERING:
            if self._unclaimed():
                # What was delivered has shown that PostgreSQL has gone back in time, or that another owner came.
                await self._settle_doubtful()
            elif self._vault.replicator.is_idle:
                self._vault.outage.drained()
                self._report()
                return
            await asyncio.sleep(_POLL_S)

    def _unclaimed(self) -> bool:
        return any(not holding.claimed and holding.is_ready for holding in self._vault.holdings())

    async def _settle_doubtful(self) -> None:
        """Claim what was opened from the replica or left by a former process, and what may have been lost."""
        vault = self._vault
        lost = await vault.keeper.lost()
        open_ones = {holding.company: holding for holding in vault.holdings()}
        for record in vault.replica.companies():
            if record.company not in open_ones and (record.journal_batches or record.company in lost):
                open_ones[record.company] = vault.held.adopt(record.company)
        doubtful = [
            holding for holding in open_ones.values() if not holding.claimed or holding.company in lost
        ]
        for holding in doubtful:
            holding.claimed = False
        pacing = asyncio.Semaphore(SETTLING_AT_ONCE)

        async def settle(holding: Holding) -> None:
            async with pacing:
                await vault.held.settle(holding)

        await asyncio.gather(*(settle(holding) for holding in doubtful))
        if self._unclaimed():
            raise DatabaseUnavailable("not every company could be claimed again", cause="timeout")

    def _report(self) -> None:
        if self._away_since is not None:
            batches = self._vault.replicator.carried.batches - self._carried_before
            self._alerts.take(raised.restored(time.monotonic() - self._away_since, batches))
            self._away_since = None
