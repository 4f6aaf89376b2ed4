"""`Restoring`: what a restore does with the companies of one vault.

Invariant: a company is restored only while nobody has it open, and nothing opens it meanwhile. What the replica has is
pushed only under an epoch that PostgreSQL has just given out for it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.authstate.multifile import export_folder
from standfast.errors import AuthStateCorrupt, CompanyInUse, DatabaseUnavailable
from standfast.vault.holding import Holding
from standfast.vault.holdings import ANSWERING
from standfast.vault.storage.replica import Replica
from standfast.vault.vault import Vault

MEMORY = "sender-key-memory"
ANSWER_TIMEOUT_S = 20.0
CONFIRM_TIMEOUT_S = 15.0
CLOSE_TIMEOUT_S = 15.0
_POLL_S = 0.02


class Restoring:
    """Works on one vault; one restore at a time."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def is_open(self, company: Company) -> bool:
        """Whether anybody uses it."""
        holding = self._vault.held.get(company)
        return holding is not None and holding.is_open

    def withhold(self, company: Company) -> None:
        """Nothing may open it any more, until `let_go`."""
        self._vault.held.withheld[company] = CompanyInUse(
            f"{company} is being restored",
            next_step="Wait until the restore has ended: it starts the session again; 'standfast backup restore "
            "--resume' goes on with one that was cut off.",
        )

    def let_go(self, company: Company) -> None:
        """It may be opened again."""
        self._vault.held.withheld.pop(company, None)

    async def closed(self, company: Company) -> None:
        """Returns once nobody has it open and PostgreSQL, where it answers, has all of its journal. `CompanyInUse`
        where somebody goes on using it for longer than `CLOSE_TIMEOUT_S`."""
        end = time.monotonic() + CLOSE_TIMEOUT_S
        while self.is_open(company):
            if time.monotonic() > end:
                raise CompanyInUse(
                    f"{company} is still open here", next_step="Stop the bot that uses it; then try again."
                )
            await asyncio.sleep(_POLL_S)
        holding = self._vault.held.get(company)
        if holding is not None:
            await self._vault.held.drained(holding, self._vault.options.release_timeout_s)

    async def replay(self, company: Company) -> int:
        """Put the replica's whole state into PostgreSQL, less who has our sender keys; how many keys that are."""
        await self._answering()
        async with self._vault.held.locked(company) as holding:
            self._refuse_open(holding)
            record = self._vault.replica.record(company)
            if record is None or not record.complete:
                raise AuthStateCorrupt(f"the replica of {company} is not whole: there is nothing to replay")
            try:
                await self._vault.keeper.acquire(holding, create=True, supersede=False)
                keys = await self._vault.keeper.push_whole(holding)
                memory = self._vault.replica.everything(holding.number).keys.get(MEMORY, {})
                if memory:
                    await self._write(holding, Change(keys={MEMORY: dict.fromkeys(memory)}))
            finally:
                self._vault.release(company)
        return keys - len(memory)

    async def renew(self, company: Company) -> None:
        """Make the replica what PostgreSQL has by now, where there is a replica. Writes that PostgreSQL lacks go to
        quarantine."""
        if self._vault.replica.record(company) is None:
            return
        await self._answering()
        async with self._vault.held.locked(company) as holding:
            self._refuse_open(holding)
            try:
                await self._vault.keeper.acquire(holding, create=False)
            finally:
                self._vault.release(company)

    async def _answering(self) -> None:
        vault = self._vault
        await vault.outage.wait_for(ANSWERING, ANSWER_TIMEOUT_S)
        if vault.outage.state not in ANSWERING:
            raise DatabaseUnavailable(
                "PostgreSQL does not answer this node's vault",
                cause="timeout",
                next_step="Try again: --resume.",
            )
        if vault.held.barred is not None:
            raise vault.held.barred

    def _refuse_open(self, holding: Holding) -> None:
        if holding.is_open:
            raise CompanyInUse(f"{holding.company} is open", next_step="Stop it first; then try again.")

    async def _write(self, holding: Holding, change: Change) -> None:
        sequence = holding.next_sequence()
        await self._vault.replica.append(holding.number, sequence, change)
        self._vault.replicator.wake(holding)
        self._vault.replicator.hurry()
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                await holding.reached(sequence)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"PostgreSQL has not confirmed {holding.company} within {CONFIRM_TIMEOUT_S:g} s",
                cause="timeout",
            ) from None


async def keep_state(replica: Replica, company: Company, folder: Path) -> bool:
    """Write what the replica has as `folder`; whether it has the whole of it."""
    record = replica.record(company)
    if record is None or not (record.complete and record.has_creds):
        return False
    state = replica.everything(record.number)
    assert state.creds is not None
    keys = {
        key_type: {key_id: value for key_id, value in ids.items() if value is not None}
        for key_type, ids in state.keys.items()
    }
    await asyncio.to_thread(export_folder, folder, state.creds, keys, with_own=True)
    return True
