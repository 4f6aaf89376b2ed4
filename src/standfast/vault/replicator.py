"""`Replicator`: carries journals to PostgreSQL.

Invariant: of one company one delivery is under way at a time, each begins where PostgreSQL stands, and it carries
whole batches in order; nothing leaves the journal before PostgreSQL has confirmed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import AuthStateCorrupt, DatabaseRejected, DatabaseUnavailable, StandfastError
from standfast.postgres.replication import Delivered, Delivery, Replication
from standfast.vault import alerts as raised
from standfast.vault.holding import Holding
from standfast.vault.options import VaultOptions
from standfast.vault.outage import OutageClock, State
from standfast.vault.storage.replica import Replica

log = structlog.get_logger(__name__)
COMPANIES_AT_ONCE = 64
DELIVERY_BYTES = 4 * 2**20
STUCK_RETRY_S = 30.0
REFUSED_AFTER_S = 1.5
REFUSED_RETRY_S = 1.0
_AFTER_FAILURE_S = 0.25
_LONGEST_BACKOFF_S = 5.0
_TURN_S = 0.02
_CONNECTED = frozenset({State.ONLINE, State.SUSPECT, State.RECOVERING})


@dataclass(slots=True)
class Carried:
    """Totals since the process began."""

    batches: int = 0
    keys: int = 0
    deliveries: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Queue:
    """Holdings with batches to carry, in the order in which they came."""

    waiting: dict[Holding, None] = field(default_factory=dict)
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, holding: Holding) -> None:
        self.waiting[holding] = None
        self.filled.set()

    def take(self, count: int) -> list[Holding]:
        taken = list(self.waiting)[:count]
        for holding in taken:
            del self.waiting[holding]
        if not self.waiting:
            self.filled.clear()
        return taken


class Replicator:
    """`on_lost` is told of a holding whose epoch PostgreSQL no longer accepts ("fenced" or "behind")."""

    def __init__(
        self,
        replica: Replica,
        replication: Replication,
        outage: OutageClock,
        options: VaultOptions,
        alerts: AlertSink,
        on_lost: Callable[[Holding], Awaitable[None]],
        on_failure: Callable[[StandfastError], None],
    ) -> None:
        self.carried = Carried()
        self._replica = replica
        self._replication = replication
        self._outage = outage
        self._options = options
        self._alerts = alerts
        self._on_lost = on_lost
        self._on_failure = on_failure
        self._queue = _Queue()
        self._under_way: set[Holding] = set()
        self._halted: Counter[Company] = Counter()
        self._failures_in_a_row = 0
        self._stuck_until: dict[Holding, float] = {}
        self._failing_since: float | None = None
        self._hurry = asyncio.Event()

    def wake(self, holding: Holding) -> None:
        """There is something to carry for `holding`."""
        if holding not in self._queue.waiting:
            self._queue.put(holding)

    def hurry(self) -> None:
        """Somebody waits for PostgreSQL: gather no longer."""
        self._hurry.set()

    @contextlib.asynccontextmanager
    async def halted(self, company: Company) -> AsyncIterator[None]:
        """Nothing of the company's journal is carried meanwhile."""
        halting = self.halt(company)
        try:
            await halting
            yield
        finally:
            self.resume(company)

    def halt(self, company: Company) -> Awaitable[None]:
        """Begin no delivery of the company's journal any more, until `resume` was called as often. What it gives is to
        be awaited: then none is under way any more."""
        self._halted[company] += 1
        return self._still(company)

    async def _still(self, company: Company) -> None:
        while any(holding.company == company for holding in self._under_way):  # noqa: ASYNC110 - brief and rare
            await asyncio.sleep(_TURN_S)

    def resume(self, company: Company) -> None:
        """See `halt`."""
        self._halted[company] -= 1
        self._halted = +self._halted

    @property
    def is_failing(self) -> bool:
        """Whether PostgreSQL failed the last delivery."""
        return self._failures_in_a_row > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way; what PostgreSQL refuses does not count."""
        return not self._under_way and not any(
            holding.stuck is None for holding in self._queue.waiting if holding.pending
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._queue.filled.wait()
            if self._outage.state not in _CONNECTED:
                await self._wait_until_connected()
            await self._gather()
            if self._outage.detached is not None:
                continue  # decided while it gathered
            holdings = self._queue.take(COMPANIES_AT_ONCE)
            try:
                await self._carry(holdings)
            except AuthStateCorrupt as error:
                log.warning("a journal cannot be read: it is carried once it is mended", reason=error.message)
                await self._later(holdings)
            except Exception:
                # A loop that ended here would leave every journal growing for ever.
                log.exception("replication failed unexpectedly")
                await self._later(holdings)

    async def _later(self, holdings: list[Holding]) -> None:
        for holding in holdings:
            self.wake(holding)
        await asyncio.sleep(1.0)

    async def _wait_until_connected(self) -> None:
        if self._outage.is_refused:
            # Heartbeats say nothing of what is refused; only another attempt does.
            await self._outage.wait_for(_CONNECTED, REFUSED_RETRY_S)
        else:
            self._failing_since = None
            await self._outage.wait_for(_CONNECTED, None)

    async def _gather(self) -> None:
        """Batches that come close together travel together: fewer commits there, more of the machine here."""
        self._hurry.clear()
        if self._options.durability == "remote" or self._outage.state is State.RECOVERING:
            return
        try:
            async with asyncio.timeout(self._options.gather_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _carry(self, holdings: list[Holding]) -> None:
        now = time.monotonic()
        later = [h for h in holdings if self._stuck_until.get(h, 0) > now or h.company in self._halted]
        ready = [h for h in holdings if h.is_ready and h.claimed and h not in later]
        self._under_way.update(ready)
        try:
            deliveries = [(holding, delivery) for holding in ready if (delivery := self._next(holding))]
            if deliveries:
                await self._deliver(deliveries)
            self._failures_in_a_row, self._failing_since = 0, None
            self._outage.taken()
        except (DatabaseUnavailable, DatabaseRejected) as error:
            await self._failed(error, ready)
        finally:
            self._under_way.difference_update(ready)
        for holding in later:
            asyncio.get_running_loop().call_later(1.0, self.wake, holding)

    async def _failed(self, error: StandfastError, holdings: list[Holding]) -> None:
        self.carried.failures += 1
        for holding in holdings:
            self.wake(holding)
        # PostgreSQL may answer the heartbeat and still fail these calls: its disk full, or a right revoked.
        now = time.monotonic()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since >= REFUSED_AFTER_S:
            self._outage.refused(error)
        self._on_failure(error)
        pause_s = min(_AFTER_FAILURE_S * 2**self._failures_in_a_row, _LONGEST_BACKOFF_S)
        self._failures_in_a_row = min(self._failures_in_a_row + 1, 10)
        if self._outage.state is State.OUTAGE:
            self._failures_in_a_row = 0
            return
        await asyncio.sleep(pause_s)

    def _next(self, holding: Holding) -> Delivery | None:
        ahead = self._replica.ahead(holding.number, holding.applied, DELIVERY_BYTES)
        if ahead is None:
            # Numbers whose commit failed stand for nothing; PostgreSQL need not hear of them.
            return None
        return Delivery(holding.company, holding.epoch, holding.applied + 1, ahead.last, ahead.change)

    async def _deliver(self, pairs: list[tuple[Holding, Delivery]]) -> None:
        epochs = [holding.epoch for holding, _ in pairs]
        results = await self._unless_away([delivery for _, delivery in pairs])
        self.carried.deliveries += 1
        for (holding, delivery), epoch, result in zip(pairs, epochs, results, strict=True):
            if holding.epoch != epoch or not holding.is_ready:
                continue  # taken anew meanwhile: what PostgreSQL has was asked then
            if isinstance(result, StandfastError):
                self._refused(holding, result)
            elif result.outcome in ("applied", "partly"):
                self._confirmed(holding, delivery, result)
            else:
                await self._on_lost(holding)

    async def _unless_away(self, deliveries: list[Delivery]) -> list[Delivered | StandfastError]:
        """What became of them. A large delivery on a dead connection has a long deadline: once PostgreSQL is known to
        be away nobody waits for that."""
        work = asyncio.ensure_future(self._replication.deliver(deliveries))
        away = asyncio.ensure_future(self._went_away())
        waits: tuple[asyncio.Future[Any], ...] = (work, away)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise DatabaseUnavailable("PostgreSQL went away during a delivery", cause="timeout")
            return work.result()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _went_away(self) -> None:
        if (
            self._outage.state is State.OUTAGE
        ):  # this is the attempt that tells whether deliveries are refused still
            await self._outage.wait_for(_CONNECTED)
        await self._outage.wait_for({State.OUTAGE})

    def _confirmed(self, holding: Holding, delivery: Delivery, result: Delivered) -> None:
        self.carried.batches += max(0, result.sequence - holding.applied)
        self.carried.keys += delivery.change.key_count
        self._replica.applied(holding.number, result.sequence)
        if holding.stuck is not None:
            self._alerts.take(raised.replication_goes_on(holding.company))
        holding.advance(result.sequence)
        self._stuck_until.pop(holding, None)
        if holding.pending:
            self.wake(holding)

    def _refused(self, holding: Holding, error: StandfastError) -> None:
        if holding.stuck is None:
            self._alerts.take(raised.replication_stuck(holding.company, error))
        holding.stuck = error
        self._stuck_until[holding] = time.monotonic() + STUCK_RETRY_S
        asyncio.get_running_loop().call_later(STUCK_RETRY_S, self.wake, holding)
