"""`KeyWatch`: what the auth-state tables hold, counted by one node of a fleet and known to all.

Invariant: every figure comes from a row of `standfast_census`, so that all nodes and the next start show the same; what
is not the present is shown with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.health.census_pace import SMALLEST_SHARE, is_due, keys_now, next_share
from standfast.health.document import Finding, KeySection
from standfast.health.key_section import findings, section_of
from standfast.health.thresholds import Thresholds
from standfast.postgres import census_table, duties
from standfast.postgres.census import TIMEOUT_S, take_census
from standfast.postgres.census_table import Latest
from standfast.postgres.estimates import Estimate, read_estimate
from standfast.postgres.failures import sqlstate
from standfast.postgres.pool import Database

log = structlog.get_logger(__name__)

DUTY = "health.census"
TTL_S = 660.0  # two ticks and a minute; a holder that dies loses the duty sooner, with its node's heartbeat
PRUNE_S = 3_600.0
CLOSE_TIMEOUT_S = 2.0
ALONE_S = 2.0
RETRY_FACTOR = 100.0
_CANCELED = "57014"  # by its statement_timeout


class KeyWatch:
    """`node` is the node's UUID, `name` what operators call it. `is_holder`: whether this node counts and tells; it is
    until PostgreSQL says otherwise, so that an outage ends no alert."""

    def __init__(
        self,
        database: Database,
        node: str,
        name: str,
        thresholds: Thresholds,
        *,
        ttl_s: float = TTL_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.is_holder = False
        self._database = database
        self._node = node
        self._name = name
        self._thresholds = thresholds
        self._ttl_s = ttl_s
        # Whoever waits for the only connection there is must not wait for a count.
        self._timeout_s = min(timeout_s, ALONE_S) if database.options.max_connections == 1 else timeout_s
        self._section: KeySection | None = None
        self._error: StandfastError | None = None
        self._share = 1.0
        self._blocked_until = 0.0
        self._prune_at = 0.0
        self._shown_at, self._shown_m = time.time(), time.monotonic()

    async def tick(self) -> None:
        """Count, or estimate, or read what another node has counted; every five minutes. Never raises for a database
        that is away or refuses: `findings` tells."""
        try:
            async with asyncio.timeout(self._timeout_s + 30):
                await self._tick()
            self._error = None
        except TimeoutError:
            self._error = DatabaseUnavailable(
                "PostgreSQL did not answer in time what its tables hold", cause="timeout"
            )
        except StandfastError as error:
            self._error = error
        if self._error is not None:
            log.info("the keys could not be counted", error=str(self._error))

    async def close(self) -> None:
        """Let another node take the duty at once, where PostgreSQL can be told."""
        if not self.is_holder:
            return
        self.is_holder = False
        with contextlib.suppress(StandfastError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await duties.release(self._database, DUTY, self._node)

    def section(self) -> KeySection | None:
        """None until something was counted."""
        return self._section

    def findings(self, at: float | None = None) -> list[Finding]:
        """What `section` shows that an operator should know; `at`: now, in seconds since 1970."""
        now = self._now() if at is None else at
        return findings(self._section, self._thresholds, now, error=self._error, tells=self.is_holder)

    def _now(self) -> float:
        """By the clock that showed when the section was made: one that is set since makes no figure old."""
        return self._shown_at + time.monotonic() - self._shown_m

    async def _tick(self) -> None:
        self.is_holder = await duties.claim(self._database, DUTY, self._node, self._ttl_s)
        last = await census_table.latest(self._database)
        if self.is_holder:
            await self._measure(last)
            last = await census_table.latest(self._database)
        if last is not None:
            growth = await census_table.growth(self._database)
            self._shown_at, self._shown_m = time.time(), time.monotonic()
            self._section = section_of(last, growth, self._shown_at)

    async def _measure(self, last: Latest | None) -> None:
        estimate = await read_estimate(self._database)
        due = last is None or is_due(last.census, last.counted_s, estimate, self._thresholds)
        if due and time.monotonic() >= self._blocked_until:
            try:
                await self._count(estimate, last)
                return
            except DatabaseUnavailable as error:
                self._not_counted(error)
                if last is None:
                    raise
        if last is not None:
            await census_table.put(
                self._database,
                self._node,
                self._name,
                estimate,
                keys=keys_now(last.census, estimate),
                expired=last.census.expired_after(last.counted_s),
                counted_at=last.counted_at,
                exact=False,
                census=None,
            )

    async def _count(self, estimate: Estimate, last: Latest | None) -> None:
        if last is not None and last.census.share < 1:
            self._share = min(self._share, next_share(last.census.share, last.census.duration_s))
        census, when = await take_census(
            self._database,
            self._thresholds.retention_days,
            estimate,
            share=self._share,
            timeout_s=self._timeout_s,
        )
        self._share = next_share(census.share, census.duration_s)
        await census_table.put(
            self._database,
            self._node,
            self._name,
            estimate,
            keys=census.keys,
            expired=sum(census.expired.values()),
            counted_at=when,
            exact=census.share == 1,
            census=census,
        )
        if time.monotonic() >= self._prune_at:
            await census_table.prune(self._database)
            self._prune_at = time.monotonic() + PRUNE_S

    def _not_counted(self, error: DatabaseUnavailable) -> None:
        """A table that the server could not count in time is sampled next. A lock, or a server that hangs and cannot
        even say so, is no reason to."""
        log.info("the census was given up", error=str(error), share=self._share)
        if sqlstate(error) != _CANCELED:
            return
        if self._share <= SMALLEST_SHARE:
            self._blocked_until = time.monotonic() + RETRY_FACTOR * self._timeout_s
        self._share = next_share(self._share, None)


async def last_known(database: Database) -> KeySection | None:
    """What was measured last, by any node, without measuring: for a command without a service. Raises like every
    database call."""
    last = await census_table.latest(database)
    return section_of(last, await census_table.growth(database), time.time()) if last else None
