"""`Returning`: what the way back from files does with the companies of a vault that leaves PostgreSQL alone.

Invariant: what the replica has goes to PostgreSQL wholly, under an epoch that the replica has noted before PostgreSQL
has anything of it; what is written meanwhile comes behind it. What is given up goes to quarantine first.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

import orjson

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import AuthStateCorrupt, EmergencyFailed
from standfast.postgres.pool import Database
from standfast.postgres.putting_back import Seen, Whole, put_back
from standfast.postgres.replication import Replication
from standfast.vault.holding import Holding
from standfast.vault.storage.replica import Record
from standfast.vault.vault import Vault

_CREDS = ("", "")
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Returned:
    """What PostgreSQL has of a company now."""

    epoch: int
    sequence: int
    keys: int


class Returning:
    """Works on one vault, whose database it is given; companies may be open and write all the time."""

    def __init__(self, vault: Vault, database: Database) -> None:
        self._vault = vault
        self._database = database
        self._replication = Replication(database)

    async def put_back(self, company: Company, seen: Seen) -> Returned:
        """Put the company's whole state in place of what PostgreSQL was seen to have, and read it back. Raises what
        `putting_back.put_back` raises; `EmergencyFailed` where PostgreSQL has something else afterwards."""
        async with self._vault.held.locked(company) as holding:
            try:
                return await self._put_back(holding, seen)
            finally:
                self._dismiss_idle(holding)

    async def _put_back(self, holding: Holding, seen: Seen) -> Returned:
        company, replica = holding.company, self._vault.replica
        record = self._whole_record(company)
        if not holding.is_ready:
            holding.place(record.number, record.epoch, record.sequence, record.applied)
        # Numbers given out from now on lie beyond what PostgreSQL has, and so beyond what replaces it.
        holding.sequence = max(holding.sequence, seen.sequence)
        if record.sequence < seen.sequence:
            # Durable before PostgreSQL says so: after a crash no number may be given out that it has already. And what
            # had a lower one and was under way is durable by then: writes become so in their order.
            await replica.append(holding.number, holding.next_sequence(), Change())
        # No await between these: they are of one moment.
        record = self._whole_record(company)
        state, last = replica.everything(holding.number), max(record.sequence, 1)

        async def taken(epoch: int) -> None:
            await replica.set_epoch(holding.number, epoch, True)

        whole = Whole(company, replica.node, record.epoch, last, state)
        epoch = await put_back(self._database, whole, seen, taken)
        replica.applied(holding.number, last)
        holding.place(holding.number, epoch, record.sequence, last)
        holding.claimed = True
        different = await self._different(company, state)
        if different:
            raise EmergencyFailed(
                f"PostgreSQL has {different:,} values of {company} otherwise than they were written",
                next_step="Look who writes there beside this node; then run it again.",
            )
        return Returned(epoch, last, state.key_count)

    async def is_same(self, company: Company) -> bool:
        """Whether PostgreSQL has just what the replica has."""
        record = self._vault.replica.record(company)
        if record is None or not record.complete:
            return False
        return not await self._different(company, self._vault.replica.everything(record.number))

    async def give_up(self, company: Company) -> bool:
        """Have what PostgreSQL has: the journal goes to quarantine, who uses the company here ends. Whether this node
        has it then; not where it is gone there. `CompanyInUse` where another living node has it."""
        vault = self._vault
        async with vault.held.locked(company) as holding:
            try:
                await vault.keeper.fence(holding, "an operator has decided for what PostgreSQL has")
                holding.is_open = False
                vault.held.withheld.pop(company, None)
                return await vault.keeper.acquire(holding, create=False)
            finally:
                self._dismiss_idle(holding)

    def _whole_record(self, company: Company) -> Record:
        record = self._vault.replica.record(company)
        if record is None or not (record.complete and record.has_creds):
            raise AuthStateCorrupt(
                f"the replica of {company} is not whole: there is nothing to put back",
                next_step=f"Leave it to what PostgreSQL has: --prefer postgresql --company {company}",
            )
        return record

    async def _different(self, company: Company, state: Change) -> int:
        """How many values PostgreSQL has otherwise, lacks, or has beyond."""
        ours: dict[Place, bytes | None] = {
            (key_type, key_id): value
            for key_type, ids in state.keys.items()
            for key_id, value in ids.items()
            if value is not None
        }
        if state.creds is not None:
            ours[_CREDS] = state.creds
        different = 0
        async with aclosing(self._replication.stream(company)) as chunks:
            async for rows in chunks:
                for key_type, key_id, value in rows:
                    different += not _equal(ours.pop((key_type or "", key_id or ""), None), value)
        return different + len(ours)

    def _dismiss_idle(self, holding: Holding) -> None:
        if not holding.is_open and not (holding.claimed and holding.is_ready):
            self._vault.held.dismiss(holding)


def _equal(ours: bytes | None, theirs: bytes) -> bool:
    if ours is None or ours == theirs:
        return ours is not None
    try:
        return bool(orjson.loads(ours) == orjson.loads(theirs))
    except orjson.JSONDecodeError:
        return False  # a column of text holds what somebody else has damaged
