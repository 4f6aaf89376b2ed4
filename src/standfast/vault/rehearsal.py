"""`Rehearsal`: an outage for one company alone: its journal is held back and it opens from the replica, while
PostgreSQL is there for everybody else.

Invariant: it ends by itself: at its deadline, as soon as a real outage begins, and with the process; nothing of it is
written down. The lease stays this node's all the while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from standfast.authstate.buffer_json import parse
from standfast.authstate.company import Company
from standfast.errors import Conflict, DatabaseUnavailable, SessionNotOpen
from standfast.postgres.replication import Replication
from standfast.vault.holding import Holding
from standfast.vault.outage import State
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
CARRY_TIMEOUT_S = 30.0
_LOOKS = 20
_AGAIN = "Try again once that is over; 'standfast status' shows how it stands."

Content = Mapping[tuple[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Carried:
    """What was held back, and how long it took to bring it to PostgreSQL."""

    batches: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """`different`: creds and keys that are not the same in PostgreSQL and in the replica."""

    keys: int
    different: int


class Rehearsal:
    """One company at a time."""

    def __init__(self, vault: Vault, replication: Replication) -> None:
        self._vault = vault
        self._replication = replication
        self._company: Company | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = ""
        vault.outage.changed(self._changed)

    @property
    def company(self) -> Company | None:
        """Whose outage is rehearsed just now."""
        return self._company

    @property
    def ended(self) -> str:
        """Why the last one ended, where nobody asked for it."""
        return self._ended

    async def begin(self, company: Company, for_s: float) -> None:
        """PostgreSQL is away for the company once this returns, for `for_s` at most. `Conflict` where it makes no sense
        just now, `SessionNotOpen` where this node does not serve the company."""
        self._refuse(company)
        holding = self._held(company)
        if holding.stuck is not None:
            raise Conflict(
                f"PostgreSQL refuses writes of {company}: {holding.stuck.message}", next_step=_AGAIN
            )
        self._vault.held.rehearsed[company] = DatabaseUnavailable(
            f"an outage is rehearsed for {company}: PostgreSQL counts as away for it",
            cause="rehearsal",
            next_step="None: it ends by itself.",
        )
        still = self._vault.replicator.halt(company)
        self._company, self._ended = company, ""
        self._timer = asyncio.get_running_loop().call_later(for_s, self._lift, "its deadline has passed")
        log.warning("an outage is rehearsed for one company", company=company, for_s=for_s)
        try:
            await still
        except BaseException:
            self.give_up("it was not begun")
            raise

    def give_up(self, why: str) -> None:
        """End it, whoever it is of, where one goes on; its journal is carried behind the caller's back."""
        if self._company is not None:
            self._lift(why)

    async def end(self, company: Company) -> Carried:
        """PostgreSQL is back for the company, if it was away; returns once PostgreSQL has all of its journal.
        `DatabaseUnavailable` after `CARRY_TIMEOUT_S`."""
        holding = self._vault.held.get(company)
        batches, began = holding.pending if holding else 0, time.monotonic()
        if self._company == company:
            self._lift("")
        if holding is not None:
            await self._drained(holding)
        return Carried(batches, time.monotonic() - began)

    async def compare(self, company: Company) -> Compared:
        """What PostgreSQL has beside what the replica has, at a moment at which nothing is on its way."""
        holding = self._held(company)
        for _ in range(_LOOKS):
            await self._drained(holding)
            before = holding.sequence
            there, here = await self._there(company), self._here(holding)
            if holding.sequence == before:
                return await asyncio.to_thread(_compared, there, here)
        raise Conflict(f"{company} is written to all the time: nothing can be compared", next_step=_AGAIN)

    def standing(self, company: Company) -> tuple[int, int]:
        """Batches of the company that PostgreSQL does not have yet, and the last one that it has."""
        holding = self._vault.held.get(company)
        return (0, 0) if holding is None else (holding.pending, holding.applied)

    def _refuse(self, company: Company) -> None:
        vault = self._vault
        if self._company is not None:
            raise Conflict(f"an outage is being rehearsed already, for {self._company}", next_step=_AGAIN)
        if vault.outage.state is not State.ONLINE:
            raise Conflict(
                "PostgreSQL is away, or has just been: this is no time for a rehearsal", next_step=_AGAIN
            )
        if vault.options.read_only_cache:
            raise Conflict(
                "CACHE_MODE is read-only: saves of an outage are skipped, and contacts would feel a rehearsal",
                next_step="Rehearse on parts of its own: standfast drill",
            )
        if company in vault.held.withheld:
            raise vault.held.withheld[company]
        record = vault.replica.record(company)
        if record is None or not record.complete or not record.has_creds:
            raise SessionNotOpen(f"this node has no whole replica of {company} yet", next_step=_AGAIN)

    def _held(self, company: Company) -> Holding:
        holding = self._vault.held.get(company)
        if holding is None or not (holding.is_open and holding.claimed and holding.is_ready):
            raise SessionNotOpen(
                f"{company} is not open at this node", next_step=f"Start it here: standfast start {company}"
            )
        return holding

    def _changed(self, state: State) -> None:
        if state is State.OUTAGE:
            self.give_up("PostgreSQL went away in earnest")

    def _lift(self, why: str) -> None:
        company, self._company, self._ended = self._company, None, why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if company is None:
            return
        self._vault.held.rehearsed.pop(company, None)
        self._vault.replicator.resume(company)
        holding = self._vault.held.get(company)
        if holding is not None:
            self._vault.replicator.wake(holding)
            self._vault.replicator.hurry()
        log.warning("the rehearsed outage is over", company=company, reason=why or "ended by who began it")

    async def _drained(self, holding: Holding) -> None:
        if not await self._vault.held.drained(holding, CARRY_TIMEOUT_S):
            raise DatabaseUnavailable(
                f"PostgreSQL has not taken the journal of {holding.company} within {CARRY_TIMEOUT_S:g} s",
                cause="timeout",
            )

    async def _there(self, company: Company) -> dict[tuple[str, str], bytes]:
        found: dict[tuple[str, str], bytes] = {}
        async with aclosing(self._replication.stream(company)) as chunks:
            async for rows in chunks:
                found.update({(key_type or "", key_id or ""): value for key_type, key_id, value in rows})
        return found

    def _here(self, holding: Holding) -> dict[tuple[str, str], bytes]:
        state = self._vault.replica.everything(holding.number)
        found = {
            (key_type, key_id): value
            for key_type, ids in state.keys.items()
            for key_id, value in ids.items()
            if value is not None
        }
        return found if state.creds is None else {**found, ("", ""): state.creds}


def _compared(there: Content, here: Content) -> Compared:
    """By meaning: PostgreSQL keeps JSON in a form of its own."""
    different = there.keys() ^ here.keys()
    same = there.keys() & here.keys()
    changed = sum(there[one] != here[one] and parse(there[one]) != parse(here[one]) for one in same)
    return Compared(len(here.keys() - {("", "")}), len(different) + changed)
