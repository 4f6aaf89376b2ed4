"""`Vault`: what sessions call for their auth state.

Answers every read from the local replica and acknowledges every write once it is durable in the local journal;
PostgreSQL is told behind the caller's back. Invariant: no call of a company that is open waits on PostgreSQL
(unless `durability` is "remote", and then only while PostgreSQL is up).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.authstate.creds import identity_key
from standfast.authstate.store import KeyBatch
from standfast.errors import (
    AuthStateCorrupt,
    CompanyInUse,
    CompanyUnknown,
    DatabaseUnavailable,
    JournalUnwritable,
    StandfastError,
)
from standfast.postgres.replication import Replication
from standfast.vault import alerts as raised
from standfast.vault.grace import Grace
from standfast.vault.holding import Holding
from standfast.vault.holdings import ANSWERING, Holdings
from standfast.vault.lease import LeaseKeeper
from standfast.vault.options import VaultOptions
from standfast.vault.outage import OutageClock, State
from standfast.vault.storable import refuse_unstorable
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica

log = structlog.get_logger(__name__)
_SKIP_REPORT_S = 60.0
_POLL_S = 0.01


class Vault:
    """See `standfast.authstate.store.AuthStore`. Made by `standfast.vault.opening.open_vault`."""

    def __init__(
        self,
        replica: Replica,
        replication: Replication,
        keeper: LeaseKeeper,
        outage: OutageClock,
        grace: Grace,
        options: VaultOptions,
        alerts: AlertSink,
        probe: Callable[[StandfastError], None],
    ) -> None:
        """`probe` is told of a failure that a call to PostgreSQL met, and looks at it at once."""
        self.replica = replica
        self.keeper = keeper
        self.outage = outage
        self.grace = grace
        self.options = options
        self.note_failure = probe
        self.held = Holdings(replica, replication, keeper, outage, grace, options, alerts, probe)
        self.replicator = self.held.replicator
        self._replication = replication
        self._alerts = alerts
        self._unwritable: JournalUnwritable | None = None
        self._writing_judged = False
        self._skips_reported_at = 0.0

    @property
    def detached(self) -> StandfastError | None:
        """Why PostgreSQL is left alone, where that was decided."""
        return self.outage.detached

    def detach(self, cause: StandfastError) -> None:
        """Leave PostgreSQL alone until `rejoin`: the replica serves and the journal keeps, without a limit. Heartbeats
        go on, so that no other node takes over what this one has."""
        self.grace.is_waived = True
        self.held.barred = None
        self.outage.detach(cause)

    def rejoin(self) -> None:
        """PostgreSQL counts again: once it answers, leases are looked at and journals carried over."""
        cause = self.outage.detached
        self.grace.is_waived = False
        self.outage.rejoin()
        if cause is not None:
            self.note_failure(cause)

    def holdings(self) -> list[Holding]:
        """Every company that this process holds."""
        return self.held.all()

    async def open(self, company: Company, *, pair: bool = False) -> bytes | None:
        """As the contract says; with PostgreSQL away, from the replica within the grace period. Takes at most
        about `opening_patience_s` + `acquire_timeout_s` (a first download apart). `GraceExpired`,
        `DatabaseUnavailable` where there is no replica to open from."""
        return await self.held.open(company, pair=pair)

    def release(self, company: Company) -> None:
        """The lease is given back once PostgreSQL has the journal; in an outage it stays, and so does the journal."""
        self.held.release(company)

    # -- reading

    async def load_creds(self, company: Company) -> bytes | None:
        """The creds of a company that is open here; of another one what PostgreSQL says."""
        holding = self.held.get(company)
        if holding is not None and holding.is_ready:
            return self.replica.creds(holding.number)
        record = self.replica.record(company)
        if self.detached is not None and record is not None and record.complete:
            return self.replica.creds(record.number)
        creds: bytes | None = None
        async for rows in self._replication.stream(company):
            creds = next((value for key_type, _, value in rows if key_type is None), creds)
        return creds

    async def get_keys(self, company: Company, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        holding = self._held(company)
        try:
            return self.replica.keys(holding.number, key_type, ids)
        except AuthStateCorrupt:
            await self._mended(holding)
        return self.replica.keys(self._held(company).number, key_type, ids)

    async def _mended(self, holding: Holding) -> None:
        """Wait until a damaged replica of the company has been rebuilt from PostgreSQL."""
        end = time.monotonic() + self.options.mending_patience_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.mending_patience_s):
                await self.replica.rebuilt()
        while not ((record := self.replica.record(holding.company)) and record.complete):
            if time.monotonic() > end or self.outage.state is State.OUTAGE:
                why = f": {self.outage.cause.message}" if self.outage.cause else ""
                raise DatabaseUnavailable(
                    f"the replica of {holding.company} was damaged, and PostgreSQL is away{why}",
                    cause="timeout",
                )
            await asyncio.sleep(_POLL_S)

    def damaged(self, damage: Damage) -> None:
        """A damaged file was replaced; what it no longer holds wholly is fetched from PostgreSQL."""
        self._alerts.take(raised.replica_corrupt(damage))
        self.held.damage = damage
        self.note_unwritable(None)
        for company in damage.companies:
            self.held.unsettle(company)

    # -- writing

    async def set_keys(self, company: Company, batch: KeyBatch) -> None:
        change = Change.of_keys(batch)
        if change.key_count:
            refuse_unstorable(change)
            await self._write(self._held(company), change)

    async def save_creds(self, company: Company, creds: bytes) -> None:
        holding = self._held(company)
        if holding.identity is None:
            raise CompanyUnknown(f"{company} has no auth state")
        if identity_key(creds) != holding.identity:
            raise CompanyInUse(
                f"{company} was paired anew: the stored identity is another one",
                next_step="Stop this client; its creds are of a former pairing and must not be written back.",
            )
        change = Change(creds=creds)
        refuse_unstorable(change)
        await self._write(holding, change)

    async def create_creds(self, company: Company, creds: bytes) -> None:
        """The one write that needs PostgreSQL: only it can tell that there is no other identity."""
        holding = self._held(company)
        identity = identity_key(creds)
        if holding.identity is not None:
            raise CompanyInUse(
                f"{company} has creds already",
                next_step="Open it as it is; 'standfast sessions' shows its state.",
            )
        if self.outage.state not in ANSWERING:
            raise self.grace.no_replica(company, self.outage.cause)
        change = Change(creds=creds)
        refuse_unstorable(change)
        async with holding.lock:
            if not await self.held.drained(holding, self.options.release_timeout_s):
                raise DatabaseUnavailable(
                    f"PostgreSQL has not taken the earlier writes of {company}", cause="timeout"
                )
            sequence = holding.next_sequence()
            await self._replication.create(company, holding.epoch, sequence, creds)
            try:
                await self.replica.append(holding.number, sequence, change)
            except JournalUnwritable as error:
                self.note_unwritable(error)
                self.held.unsettle(company)  # PostgreSQL has what the replica lacks
                raise
            self.replica.applied(holding.number, sequence)
            holding.advance(sequence)
            holding.identity = identity

    async def clear_keys(self, company: Company) -> int:
        holding = self._held(company)
        count = self.replica.everything(holding.number).key_count
        await self._write(holding, Change(cleared=True))
        return count

    async def remove(self, company: Company) -> bool:
        """Delete creds and keys here and in PostgreSQL. `CompanyInUse` while it is open, or held by another node."""
        if self.detached is not None:
            raise self.detached
        async with self.held.locked(company) as holding:
            if holding.is_open:
                raise CompanyInUse(f"{company} is open", next_step=f"Stop it first: standfast stop {company}")
            try:
                if not holding.claimed and not await self.keeper.acquire(holding, create=False):
                    return False
                if not await self.held.drained(holding, self.options.release_timeout_s):
                    raise DatabaseUnavailable(
                        f"PostgreSQL has not taken the earlier writes of {company}", cause="timeout"
                    )
                existed = await self._replication.remove(company, holding.epoch, holding.next_sequence())
                holding.advance(holding.sequence)
                self.replica.tap.removed(company, holding.epoch, holding.sequence)
                await self.keeper.give_back(holding)
                await self.replica.forget(holding.number)
                return existed
            finally:
                self.held.dismiss(holding)

    def check_writable(self) -> None:
        """Raises `JournalUnwritable` where a write could not be made durable just now: before anything is sent."""
        if self._unwritable is not None:
            raise self._unwritable

    async def _write(self, holding: Holding, change: Change) -> None:
        if self.options.read_only_cache and self.outage.state is State.OUTAGE and self.detached is None:
            self._skip(holding)
            return
        sequence = holding.next_sequence()
        if holding.touched is not None:
            holding.touched.update(change.places())
        try:
            await self.replica.append(holding.number, sequence, change)
        except JournalUnwritable as error:
            if holding.sequence == sequence:
                holding.sequence -= 1
            self.note_unwritable(error)
            raise
        if self._unwritable is not None:
            self.note_unwritable(None)
        if holding.fenced is not None:
            # It lies in quarantine with the rest; to its writer it is not acknowledged.
            raise holding.fenced
        self.replicator.wake(holding)
        if self.options.durability == "remote" and self._takes_writes(holding):
            await self._remotely(holding, sequence)

    def _takes_writes(self, holding: Holding) -> bool:
        """Whether PostgreSQL is up for this company: it may answer heartbeats and fail deliveries, its disk full. A
        suspicion may be nothing but a slow moment: what was promised is kept until PostgreSQL is known to be away."""
        is_away = self.outage.state is State.OUTAGE or self.replicator.is_failing
        is_away = is_away or holding.company in self.held.rehearsed
        return not is_away and holding.stuck is None

    async def _remotely(self, holding: Holding, sequence: int) -> None:
        self.replicator.hurry()
        reached = holding.reached(sequence)
        away = asyncio.ensure_future(self.outage.wait_for({State.OUTAGE}))
        waits: tuple[asyncio.Future[Any], ...] = (reached, away)
        try:
            await asyncio.wait(
                waits, timeout=self.options.remote_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if reached.done():
                reached.result()
        finally:
            away.cancel()
            reached.cancel()

    def _skip(self, holding: Holding) -> None:
        holding.skipped += 1
        now = time.monotonic()
        if now - self._skips_reported_at > _SKIP_REPORT_S:
            self._skips_reported_at = now
            self._alerts.take(raised.saves_skipped(holding.company, holding.skipped))

    def note_unwritable(self, error: JournalUnwritable | None) -> None:
        """Remember, and tell once, that the journal cannot be written; None: that it can again."""
        if error is not None and self._unwritable is None:
            self._alerts.take(raised.journal_unwritable(error))
        elif error is None and (self._unwritable is not None or not self._writing_judged):
            self._alerts.take(raised.journal_writable_again(quiet=self._unwritable is None))
        self._unwritable, self._writing_judged = error, True

    def _held(self, company: Company) -> Holding:
        holding = self.held.get(company)
        if holding is None or not holding.is_open:
            raise CompanyInUse(f"{company} is not open here", next_step="Call auth.open first.")
        if holding.fenced is not None:
            raise holding.fenced
        return holding

    async def close(self) -> None:
        """Deliver what PostgreSQL takes within `close_timeout_s`, and give every lease back."""
        await self.held.close()
