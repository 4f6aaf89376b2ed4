"""What a `Database` tells of its calls and of its connections, and to whom.

Invariant: a call is told of once, when it has ended, however often it was tried; nothing that it was given or that it
found is told. Times are those of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import math
import sys
from time import monotonic
from typing import NamedTuple, Protocol

import msgspec

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres.failures import is_declined

OK = "ok"
CANCELLED = "cancelled"  # by its caller; a deadline of ours is a failure instead
ABORTED = "aborted"  # a transaction whose block raised something of its own
DECLINED = "declined"  # a rule of ours in the database said no, as it is meant to
WITHOUT_LIMIT_S = math.inf


class Execution(msgspec.Struct, gc=False):
    """One call of a statement, or a transaction. `duration_s` is the whole, `ran_s` the part of it in which it had a
    connection; the rest went by in waiting for one and between attempts. `expected_s` is time that the call may well
    take: a transaction's own limit, the transfer of large parameters. `outcome` is one of the words above or the
    cause of the failure that the caller got."""

    name: str
    expected_s: float = 0.0
    ended_s: float = 0.0
    duration_s: float = 0.0
    ran_s: float = 0.0
    rows: int = 0
    outcome: str = OK
    retries: int = 0


class QueryObserver(Protocol):
    """Told about every call when it has ended; must be quick and must not raise."""

    def on_query(self, execution: Execution) -> None:
        """Owns `execution` from now on."""
        ...


class PoolObserver(Protocol):
    """Told when the use of a pool changes, while more than `quiet_up_to` connections are in use; it may change that
    number at any time. Must be quick and must not raise."""

    quiet_up_to: int

    def on_use(self, now_s: float, active: int, waiting: int) -> None:
        """From now on `active` connections are in use and `waiting` calls have none."""
        ...

    def on_timeout(self, now_s: float) -> None:
        """A call got no connection in time, though PostgreSQL was there."""
        ...


class _Nobody:
    """A `PoolObserver` that is never told."""

    quiet_up_to = sys.maxsize

    def on_use(self, now_s: float, active: int, waiting: int) -> None:
        """Nothing is kept."""

    def on_timeout(self, now_s: float) -> None:
        """Nothing is kept."""


class Observers(NamedTuple):
    """Whoever wants to be told of a database."""

    queries: QueryObserver | None = None
    pool: PoolObserver | None = None


NOBODY = Observers()


class Holder(NamedTuple):
    """A connection in use: the statement or transaction that has it, and for how long."""

    name: str
    held_s: float


class PoolUse:
    """Who holds which connection of a pool. It is asked twice in each call: what that costs is in `make bench`."""

    __slots__ = ("_held_s", "_holders", "_observer", "timeouts")

    def __init__(self, observer: PoolObserver | None) -> None:
        self.timeouts = 0
        self._held_s = 0.0
        self._holders: dict[object, tuple[str, float]] = {}
        self._observer = observer or _Nobody()

    @property
    def active(self) -> int:
        return len(self._holders)

    def taken(self, connection: object, name: str, waiting: int) -> None:
        """The connection is `name`'s from now on."""
        now_s = monotonic()
        self._holders[connection] = (name, now_s)
        if len(self._holders) > self._observer.quiet_up_to:
            self._observer.on_use(now_s, len(self._holders), waiting)

    def returned(self, connection: object, call: Execution, waiting: int) -> None:
        """The connection is nobody's; `call` has had it until now."""
        now_s = monotonic()
        held_s = now_s - self._holders.pop(connection)[1]
        self._held_s += held_s
        call.ran_s += held_s
        call.ended_s = now_s
        if len(self._holders) >= self._observer.quiet_up_to:
            self._observer.on_use(now_s, len(self._holders), waiting)

    def queued(self, waiting: int) -> None:
        """All connections are in use, and so many calls wait now."""
        self._observer.on_use(monotonic(), len(self._holders), waiting)

    def timed_out(self) -> None:
        """A call has waited for too long."""
        self.timeouts += 1
        self._observer.on_timeout(monotonic())

    def held_s(self) -> float:
        """Seconds for which connections were in use since the start, each counted by itself."""
        return self._held_s + sum(one.held_s for one in self.holders())

    def holders(self) -> tuple[Holder, ...]:
        """Of every connection in use, the one held longest first."""
        now_s = monotonic()
        return tuple(Holder(name, now_s - since_s) for name, since_s in self._holders.values())


def outcome_of(error: BaseException) -> str:
    """How a call ended that raised this."""
    if isinstance(error, DatabaseUnavailable | DatabaseRejected):
        return DECLINED if is_declined(error) else str(error.facts.get("cause", error.code))
    return CANCELLED if isinstance(error, asyncio.CancelledError) else ABORTED
