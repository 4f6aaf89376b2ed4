"""`Holdings`: which companies this process holds, how they are opened, settled and released.

Invariant: a company has one holding at most, and only under its lock is it claimed, opened from the replica, or
given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.authstate.creds import identity_key
from standfast.errors import (
    AuthStateCorrupt,
    CompanyInUse,
    CompanyUnknown,
    DatabaseRejected,
    DatabaseUnavailable,
    StandfastError,
)
from standfast.postgres.replication import Replication
from standfast.vault import alerts as raised
from standfast.vault.grace import Grace
from standfast.vault.holding import Holding
from standfast.vault.lease import LeaseKeeper
from standfast.vault.options import VaultOptions
from standfast.vault.outage import OutageClock, State
from standfast.vault.replicator import Replicator
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Replica

log = structlog.get_logger(__name__)
ANSWERING = frozenset({State.ONLINE, State.RECOVERING})
_DECIDED = frozenset({State.ONLINE, State.RECOVERING, State.OUTAGE})
_POLL_S = 0.01


class Holdings:
    """`barred` is why no company may be opened just now, where there is such a reason, `withheld` why some may not; for
    those in `rehearsed` PostgreSQL counts as away, and why. `damage`: what was last found of the vault's file. `probe`
    is told of a failure that a call to PostgreSQL met."""

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
        self.barred: StandfastError | None = None
        self.withheld: dict[Company, StandfastError] = {}
        self.rehearsed: dict[Company, StandfastError] = {}
        self.damage: Damage | None = None
        self.replicator = Replicator(replica, replication, outage, options, alerts, self._lost, probe)
        self._replica = replica
        self._keeper = keeper
        self._outage = outage
        self._grace = grace
        self._options = options
        self._alerts = alerts
        self._probe = probe
        self._holdings: dict[Company, Holding] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def all(self) -> list[Holding]:
        """Every company that this process holds, open or not."""
        return list(self._holdings.values())

    def get(self, company: Company) -> Holding | None:
        """The company's holding; None where this process does not hold it."""
        return self._holdings.get(company)

    def adopt(self, company: Company) -> Holding:
        """A holding for a company that nobody has open, such as one whose journal a former process left."""
        return self._holdings.setdefault(company, Holding(company))

    def dismiss(self, holding: Holding) -> None:
        """Hold it no longer; it is not open."""
        if self._holdings.get(holding.company) is holding:
            del self._holdings[holding.company]

    @contextlib.asynccontextmanager
    async def locked(self, company: Company) -> AsyncIterator[Holding]:
        """The company's holding, locked; a new one where there is none, or where it was just given back."""
        while True:
            holding = self.adopt(company)
            async with holding.lock:
                if self._holdings.get(company) is holding:
                    yield holding
                    return

    async def open(self, company: Company, *, pair: bool) -> bytes | None:
        """See `Vault.open`."""
        # A suspicion that has lasted for as long is not waited for once more by each session that opens.
        patience_s = self._options.opening_patience_s - self._outage.since_s()
        await self._outage.wait_for(_DECIDED, max(0.0, patience_s))
        if self.barred is not None:
            raise self.barred
        async with self.locked(company) as holding:
            if company in self.withheld:
                if not holding.is_ready:
                    self.dismiss(holding)
                raise self.withheld[company]
            holding.is_open = True
            try:
                creds = await self._opened_undamaged(holding, pair=pair)
                holding.identity = identity_key(creds) if creds is not None else None
            except BaseException:
                holding.is_open = False
                if not holding.pending:
                    self.dismiss(holding)
                raise
            self.replicator.wake(holding)
            return creds

    async def _opened_undamaged(self, holding: Holding, *, pair: bool) -> bytes | None:
        try:
            return await self._opened(holding, pair=pair)
        except AuthStateCorrupt:
            # Found just now: what the file has lost is fetched anew, once another file has taken its place.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.mending_patience_s):
                    await self._replica.rebuilt()
            holding.claimed = False
        return await self._opened(holding, pair=pair)

    async def _opened(self, holding: Holding, *, pair: bool) -> bytes | None:
        rehearsed = self.rehearsed.get(holding.company)
        failure: StandfastError | None = rehearsed or self._outage.cause
        if self._outage.state is not State.OUTAGE and rehearsed is None:
            try:
                return await self._claimed(holding, pair=pair)
            except (DatabaseUnavailable, DatabaseRejected) as error:
                failure = error
                self._probe(error)
        return self._from_replica(holding, failure)

    async def _claimed(self, holding: Holding, *, pair: bool) -> bytes | None:
        options = self._options
        is_sure = self._outage.state in ANSWERING
        timeout_s = options.acquire_timeout_s if is_sure else options.suspect_timeout_s
        there = holding.claimed and holding.is_ready and self._is_alive()
        there = there or await self._keeper.acquire(holding, create=pair, timeout_s=timeout_s)
        creds = self._replica.creds(holding.number) if there else None
        if creds is None and not pair:
            if there:
                await self._keeper.give_back(holding)
            raise CompanyUnknown(
                f"company {holding.company!r} has no auth state and pairing was not asked for"
            )
        return creds

    def _is_alive(self) -> bool:
        """Whether the leases of this node surely run: a machine that slept wakes with the state of before."""
        age_s = self._grace.node_age_s()
        return age_s is not None and age_s < self._options.lease_ttl_s

    def _from_replica(self, holding: Holding, failure: StandfastError | None) -> bytes:
        record = self._replica.record(holding.company)
        if record is None or not record.complete or not record.has_creds:
            raise self._grace.no_replica(holding.company, failure, self.damage)
        age_s = self._grace.age_s(record)
        self._grace.check(holding.company, age_s, failure)
        creds = self._replica.creds(record.number)
        assert creds is not None
        if not holding.is_ready:
            holding.place(record.number, record.epoch, record.sequence, record.applied)
        if self._outage.detached is None:
            self._alerts.take(raised.cached_credentials(holding.company, age_s, failure))
        return creds

    def release(self, company: Company) -> None:
        """See `Vault.release`."""
        holding = self._holdings.get(company)
        if holding is not None:
            holding.is_open = False
            self.spawn(self._release(holding))

    async def _release(self, holding: Holding) -> None:
        self.replicator.hurry()
        await self.drained(holding, self._options.release_timeout_s)
        async with holding.lock:
            if holding.is_open or self._holdings.get(holding.company) is not holding:
                return
            is_settled = holding.is_ready and holding.claimed and not holding.pending
            answers = self._outage.state in ANSWERING and holding.company not in self.rehearsed
            if is_settled and answers:
                await self._keeper.give_back(holding)
            if not holding.is_ready or not (holding.pending or holding.claimed):
                self.dismiss(holding)

    async def _lost(self, holding: Holding) -> None:
        """PostgreSQL no longer takes this holding's epoch, or has gone back in time."""
        holding.claimed = False
        self.spawn(self.settle(holding))

    def unsettle(self, company: Company) -> None:
        """What the replica holds of the company is no longer whole: claim it, and fill it, anew."""
        holding = self._holdings.get(company)
        if holding is not None:
            holding.claimed = False
            self.spawn(self.settle(holding))

    async def settle(self, holding: Holding) -> None:
        """Where the company is not, or no longer surely, claimed: ask PostgreSQL whose it is, and claim it, push to it,
        or give it up."""
        async with holding.lock:
            if holding.claimed or holding.fenced is not None or self.get(holding.company) is not holding:
                return
            if self._outage.detached is not None:
                return
            is_pairing = holding.is_open and holding.identity is None
            try:
                # Who has taken it since is only away for a moment, perhaps: every lease runs out in an outage.
                if not await self._keeper.acquire(holding, create=is_pairing, supersede=False):
                    await self._keeper.fence(holding, "its auth state was removed")
            except CompanyInUse:
                pass  # another node has it; the keeper has put the journal into quarantine
            except DatabaseUnavailable as error:
                self._probe(error)
                holding.claimed = False
            self.replicator.wake(holding)
        if not holding.is_open:
            await self._release(holding)

    async def drained(self, holding: Holding, timeout_s: float) -> bool:
        """Whether PostgreSQL has the whole journal, having waited for it while PostgreSQL answers."""
        end = time.monotonic() + timeout_s
        while holding.pending and holding.is_ready and holding.stuck is None:
            is_away = self._outage.state not in ANSWERING or holding.company in self.rehearsed
            if is_away or time.monotonic() > end:
                return False
            self.replicator.wake(holding)
            await asyncio.sleep(_POLL_S)
        return not holding.pending

    def release_idle(self) -> None:
        """Give back what nobody has open and whose journal was carried since."""
        for holding in self.all():
            if not holding.is_open and not holding.pending and not holding.lock.locked():
                self.spawn(self._release(holding))

    async def close(self) -> None:
        """Deliver what PostgreSQL takes within `close_timeout_s`, and give every lease back."""
        for holding in self.all():
            self.release(holding.company)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._options.close_timeout_s)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background until `close`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, DatabaseUnavailable | AuthStateCorrupt):
            log.warning("a vault's task met an obstacle", error=error.code, reason=error.message)
        else:
            log.error("a vault's task failed", exc_info=error)
