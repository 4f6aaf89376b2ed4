"""`Holding`: one company that this node holds, as the vault's parts see it.

Invariant: `applied` never passes `sequence`, and both only grow; a holding that was fenced off takes no write any
more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, StandfastError

_AGES_KEPT = 64
_AGES_APART_S = 5.0


@dataclass(eq=False, slots=True)
class Holding:
    """`number` is the company's in the replica; `epoch` the one it is written under; `sequence` the last batch that
    was given out, `applied` the last one that PostgreSQL is known to have. `claimed`: this very process has claimed
    the epoch, as opposed to having opened the company from its replica in an outage. `touched`: while somebody asks
    for it, every key that a batch names from then on, durable or not."""

    company: Company
    number: int = 0
    epoch: int = 0
    sequence: int = 0
    applied: int = 0
    is_open: bool = False
    claimed: bool = False
    identity: bytes | None = field(default=None, repr=False)
    fenced: CompanyInUse | None = None
    stuck: StandfastError | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    lag_s: float = 0.0
    skipped: int = 0
    touched: set[tuple[str, str]] | None = None
    _unsent: deque[tuple[int, float]] = field(default_factory=deque)
    _waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        """Whether it has a place in the replica, under an epoch, and is not fenced off."""
        return self.number > 0 and self.fenced is None

    @property
    def pending(self) -> int:
        """How many batches PostgreSQL does not have yet, as far as is known."""
        return self.sequence - self.applied

    def next_sequence(self) -> int:
        """The number of a new batch. One whose commit fails leaves a gap, which stands for nothing."""
        self.sequence += 1
        now = time.monotonic()
        # In a long outage the ages of some batches tell as much as the ages of all.
        if len(self._unsent) < _AGES_KEPT or now - self._unsent[-1][1] > _AGES_APART_S:
            self._unsent.append((self.sequence, now))
        return self.sequence

    def place(self, number: int, epoch: int, sequence: int, applied: int) -> None:
        """Where it stands after it was taken or taken anew. Numbers that were given out meanwhile stay given out."""
        self.number, self.epoch, self.applied = number, epoch, applied
        self.sequence = max(self.sequence, sequence, applied)
        self.fenced = None
        self._settle()

    def advance(self, sequence: int) -> None:
        """PostgreSQL has everything up to `sequence`."""
        self.applied = max(self.applied, sequence)
        self.sequence = max(self.sequence, self.applied)
        self.stuck = None
        self._settle()

    def fence(self, error: CompanyInUse) -> None:
        """No write is taken any more; those who wait for PostgreSQL hear why."""
        self.fenced = error
        self.sequence = self.applied
        self._unsent.clear()
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiting.clear()

    def unsent_for_s(self) -> float:
        """How long the oldest batch has been waiting for PostgreSQL."""
        return time.monotonic() - self._unsent[0][1] if self._unsent else 0.0

    def reached(self, sequence: int) -> asyncio.Future[None]:
        """Done once PostgreSQL has everything up to `sequence`; fails when the holding is fenced off."""
        waiter = asyncio.get_running_loop().create_future()
        if self.fenced is not None:
            waiter.set_exception(self.fenced)
        elif self.applied >= sequence:
            waiter.set_result(None)
        else:
            self._waiting.append((sequence, waiter))
        return waiter

    def _settle(self) -> None:
        while self._unsent and self._unsent[0][0] <= self.applied:
            _, begun = self._unsent.popleft()
            self.lag_s = time.monotonic() - begun
        waiting = []
        for sequence, waiter in self._waiting:
            if sequence > self.applied:
                waiting.append((sequence, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiting = waiting
