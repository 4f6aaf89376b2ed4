"""What a `Database` tells of its calls and of its connections, and to whom.

Invariant: a call is told of once, when it has ended, however often it was tried; nothing that it was given or that it
found is told. Times are those of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import math
import time
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
    """Told whenever the use of a pool has changed; must be quick and must not raise."""

    def on_use(self, now_s: float, active: int, waiting: int) -> None:
        """From now on `active` connections are in use and `waiting` calls have none."""
        ...

    def on_timeout(self, now_s: float) -> None:
        """A call got no connection in time, though PostgreSQL was there."""
        ...


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
    """Who holds which connection of a pool; tells the observer."""

    __slots__ = ("_holders", "_observer", "timeouts")

    def __init__(self, observer: PoolObserver | None) -> None:
        self.timeouts = 0
        self._holders: dict[object, tuple[str, float]] = {}
        self._observer = observer

    @property
    def active(self) -> int:
        return len(self._holders)

    def taken(self, connection: object, name: str, waiting: int) -> None:
        """The connection is `name`'s from now on."""
        now_s = time.monotonic()
        self._holders[connection] = (name, now_s)
        if self._observer is not None:
            self._observer.on_use(now_s, len(self._holders), waiting)

    def returned(self, connection: object, waiting: int) -> float:
        """The connection is nobody's; for how many seconds it was somebody's."""
        now_s = time.monotonic()
        _, since_s = self._holders.pop(connection)
        if self._observer is not None:
            self._observer.on_use(now_s, len(self._holders), waiting)
        return now_s - since_s

    def queued(self, waiting: int) -> None:
        """So many calls wait now."""
        if self._observer is not None:
            self._observer.on_use(time.monotonic(), len(self._holders), waiting)

    def timed_out(self) -> None:
        """A call has waited for too long."""
        self.timeouts += 1
        if self._observer is not None:
            self._observer.on_timeout(time.monotonic())

    def holders(self) -> tuple[Holder, ...]:
        """Of every connection in use, the one held longest first."""
        now_s = time.monotonic()
        return tuple(Holder(name, now_s - since_s) for name, since_s in self._holders.values())


def outcome_of(error: BaseException) -> str:
    """How a call ended that raised this."""
    if isinstance(error, DatabaseUnavailable | DatabaseRejected):
        return DECLINED if is_declined(error) else str(error.facts.get("cause", error.code))
    return CANCELLED if isinstance(error, asyncio.CancelledError) else ABORTED
