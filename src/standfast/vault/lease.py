"""`LeaseKeeper`: takes companies for this node, keeps them, and gives them back.

Invariant: the replica of a company is filled, replaced or pushed to PostgreSQL only under an epoch that PostgreSQL
has just given to this process; what another owner has overtaken goes to quarantine, never to PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseUnavailable, StandfastError
from standfast.postgres.leases import Acquired, Leases
from standfast.postgres.replication import Delivered, Delivery, Replication
from standfast.vault import alerts as raised
from standfast.vault.clock import Clock
from standfast.vault.confirmation import Stamp
from standfast.vault.holding import Holding
from standfast.vault.options import VaultOptions
from standfast.vault.storage.replica import Record, Replica

log = structlog.get_logger(__name__)
FILLS_AT_ONCE = 8


class LeaseKeeper:
    """`on_fenced` is told when a company that was open has been lost to another owner."""

    def __init__(
        self,
        replica: Replica,
        leases: Leases,
        replication: Replication,
        options: VaultOptions,
        clock: Clock,
        alerts: AlertSink,
    ) -> None:
        self.on_fenced: Callable[[Company, CompanyInUse], None] = lambda _company, _error: None
        self._replica = replica
        self._leases = leases
        self._replication = replication
        self._options = options
        self._clock = clock
        self._alerts = alerts
        self._filling = asyncio.Semaphore(FILLS_AT_ONCE)

    async def acquire(
        self, holding: Holding, *, create: bool, timeout_s: float | None = None, supersede: bool = True
    ) -> bool:
        """Claim the company for this process and make its replica current; False where it is confirmed absent and
        not `create`. `CompanyInUse` where another node has it or, without `supersede`, had it since this one and may
        come back to it; `DatabaseUnavailable` where PostgreSQL does not answer within `timeout_s` (default
        `acquire_timeout_s`). The holding's lock is held by the caller."""
        timeout_s = timeout_s or self._options.acquire_timeout_s
        record = self._replica.record(holding.company)
        known = record.epoch if record else 0
        ask = partial(self._ask, holding.company, known, timeout_s, supersede=supersede)
        acquired = await ask(create=create)
        if acquired.outcome == "absent":
            if record is None:
                return False
            # Removed by somebody who had the right to, or gone because PostgreSQL was restored: only a claim tells.
            acquired = await ask(create=True)
            if acquired.outcome == "acquired" and acquired.relation != "behind" and not create:
                self._replica.tap.removed(holding.company, acquired.epoch, acquired.sequence)
                await self._give_up(holding, record, "its auth state was removed")
                await self._leases.release(holding.company, acquired.epoch)
                return False
        if acquired.outcome != "acquired":
            error = _held(holding.company, acquired)
            if record is not None:
                await self._give_up(holding, record, error.message)
            raise error
        await self._take(holding, record, acquired)
        return True

    async def _ask(
        self, company: Company, known: int, timeout_s: float, *, create: bool, supersede: bool
    ) -> Acquired:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._leases.acquire(
                    company, self._replica.node, known, create=create, supersede=supersede
                )
        except TimeoutError:
            raise DatabaseUnavailable(
                f"PostgreSQL did not answer about the lease of {company} within {timeout_s:g} s",
                cause="timeout",
            ) from None

    async def _take(self, holding: Holding, record: Record | None, acquired: Acquired) -> None:
        company, epoch = holding.company, acquired.epoch
        if record is not None and acquired.relation == "superseded":
            await self._give_up(holding, record, "another owner has written it since")
            record = None
        if record is None:
            number = await self._replica.enrol(company, epoch, acquired.sequence)
            await self._fill(number, company, acquired.sequence)
            holding.place(number, epoch, acquired.sequence, acquired.sequence)
        elif record.complete and (acquired.relation == "behind" or acquired.sequence < record.applied):
            await self._replica.set_epoch(record.number, epoch, True)
            holding.place(record.number, epoch, record.sequence, acquired.sequence)
            self._alerts.take(raised.diverged(company, await self.push_whole(holding)))
        else:
            await self._continue(holding, record, acquired)
        holding.claimed = True

    async def _continue(self, holding: Holding, record: Record, acquired: Acquired) -> None:
        await self._replica.set_epoch(record.number, acquired.epoch, True)
        # What PostgreSQL has beyond the replica was committed there first and not noted here: it is fetched.
        if not record.complete or acquired.sequence > max(record.sequence, holding.sequence):
            await self._fill(record.number, holding.company, acquired.sequence)
        self._replica.applied(record.number, acquired.sequence)
        holding.place(record.number, acquired.epoch, record.sequence, acquired.sequence)

    async def _fill(self, number: int, company: Company, sequence: int) -> None:
        async with self._filling:
            await self._replica.begin_fill(number)
            async with aclosing(self._replication.stream(company)) as chunks:
                async for rows in chunks:
                    await self._replica.fill(number, rows)
            await self._replica.finish_fill(number, sequence)

    async def push_whole(self, holding: Holding) -> int:
        """The replica of a company that was just claimed replaces what PostgreSQL has; how many keys that are."""
        company, record = holding.company, self._replica.record(holding.company)
        assert record is not None, "it was claimed under its record"
        change = self._replica.everything(holding.number)
        # Not up to `holding.sequence`: batches that have their number and are not durable yet come behind.
        last = max(record.sequence, holding.applied)
        delivery = Delivery(company, holding.epoch, holding.applied + 1, last, change, whole=True)
        outcome = (await self._replication.deliver([delivery]))[0]
        if isinstance(outcome, StandfastError):
            raise outcome
        if outcome.outcome != "applied":
            raise CompanyInUse(f"another process took {holding.company} while its state was being restored")
        self._note_applied(holding, outcome)
        return change.key_count

    def _note_applied(self, holding: Holding, outcome: Delivered) -> None:
        self._replica.applied(holding.number, outcome.sequence)
        holding.advance(outcome.sequence)

    async def fence(self, holding: Holding, why: str) -> None:
        """Another owner has the company: its journal goes to quarantine and no write is taken any more."""
        record = self._replica.record(holding.company)
        if record is not None:
            await self._give_up(holding, record, why)

    async def _give_up(self, holding: Holding, record: Record, why: str) -> None:
        error = CompanyInUse(
            f"this node no longer owns {holding.company}: {why}",
            next_step="Stop the other owner first; 'standfast quarantine list' shows writes that were kept.",
        )
        was_open, was_ready = holding.is_open, holding.is_ready
        # Before the first await: no write may be acknowledged behind what is moved to quarantine.
        if was_ready:
            holding.fence(error)
        holding.claimed = False
        kept = await self._replica.quarantine(record.number, why, 0)
        holding.number = 0
        if kept is not None or (was_open and was_ready):
            batches = next((q.batches for q in self._replica.quarantined() if q.id == kept), 0)
            self._alerts.take(raised.fenced(holding.company, batches, kept, why))
        if was_open and was_ready:
            self.on_fenced(holding.company, error)

    async def give_back(self, holding: Holding) -> None:
        """Release the lease of a company whose journal PostgreSQL has wholly; its replica stays for the next time."""
        stamp = Stamp.now(self._clock).to_text()
        await self._leases.release(holding.company, holding.epoch)
        holding.claimed = False
        await self._replica.set_released(holding.number, stamp)

    async def lost(self) -> set[Company]:
        """Companies that the replica marks as held under an epoch that is not, or no longer, this node's."""
        epochs = await self._leases.held(self._replica.node)
        return {
            record.company
            for record in self._replica.companies()
            if record.held and epochs.get(record.company) != record.epoch
        }


def _held(company: Company, acquired: Acquired) -> CompanyInUse:
    if acquired.outcome == "superseded":
        return CompanyInUse(
            f"another owner has written {company} since",
            next_step=f"Let it run there, or stop it there and start it here: standfast start {company}",
        )
    left = f" (its lease runs for {acquired.holder_for_s:.0f} s more)" if acquired.holder_for_s else ""
    return CompanyInUse(
        f"{company} is held by the node {acquired.holder or '?'}{left}",
        next_step="Stop it there first, or wait until that node has been silent for the lease's time.",
        holder=acquired.holder,
    )
