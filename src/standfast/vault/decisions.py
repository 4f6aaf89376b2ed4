"""`Decisions`: what an operator does with writes that another owner overtook.

Invariant: nothing leaves quarantine before it is on disk elsewhere: applied and confirmed by PostgreSQL, or exported;
and what an apply replaces is exported before it is touched.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.authstate.creds import identity_key
from standfast.authstate.file_names import masked
from standfast.authstate.multifile import export_folder
from standfast.errors import (
    CompanyInUse,
    CompanyUnknown,
    DatabaseUnavailable,
    StandfastError,
    UsageError,
)
from standfast.postgres.replication import Replication
from standfast.vault import kept_change
from standfast.vault.holding import Holding
from standfast.vault.outage import State
from standfast.vault.storage.quarantine import Quarantined
from standfast.vault.storage.replica import Replica
from standfast.vault.vault import Vault

IDS_SHOWN = 20
CONFIRM_TIMEOUT_S = 15.0
COMPARE_TIMEOUT_S = 10.0
_ANSWERING = frozenset({State.ONLINE, State.RECOVERING})
_MEMORY = "sender-key-memory"


@dataclass(frozen=True, slots=True)
class Decided:
    """`archive` holds what was there before (apply) or what was given up (discard); None: there was nothing."""

    company: Company
    batches: int
    keys: int
    archive: Path | None

    def as_wire(self) -> dict[str, Any]:
        archive = str(self.archive) if self.archive else None
        return {"company": self.company, "batches": self.batches, "keys": self.keys, "archive": archive}


class Decisions:
    """Works on the vault's quarantine; exports go below `archive`."""

    def __init__(self, vault: Vault, replication: Replication, archive: Path) -> None:
        self._vault = vault
        self._replication = replication
        self._archive = archive
        self._deciding = asyncio.Lock()

    def entries(self) -> list[dict[str, Any]]:
        """Every entry, oldest first, without keys."""
        return entries_of(self._vault.replica)

    async def show(self, entry_id: int) -> dict[str, Any]:
        """One entry with its keys (ids masked), and how many of them PostgreSQL has just so, differently, or not at
        all; `compared` is None where PostgreSQL cannot be asked."""
        entry = self._entry(entry_id)
        change = self._vault.replica.quarantined_change(entry.id)
        return {
            **_summary(entry),
            "creds": change.creds is not None,
            "cleared": change.cleared,
            "keys": [_of_type(key_type, change.keys[key_type]) for key_type in sorted(change.keys)],
            "compared": await self._compared(entry.company, change),
        }

    async def apply(self, entry_id: int) -> Decided:
        """Merge an entry over what PostgreSQL has, under a fresh lease. `CompanyInUse` while the company is open here
        or held by another node, or where it has another identity by now."""
        async with self._deciding:
            entry = self._entry(entry_id)
            change = self._vault.replica.quarantined_change(entry.id)
            decided = await self._merge(entry.company, change, entry.batches)
            await self._vault.replica.discard(entry.id)
            return decided

    async def apply_file(self, path: Path) -> Decided:
        """As `apply`, of what a discard has exported."""
        async with self._deciding:
            company, change = await asyncio.to_thread(kept_change.read, path)
            return await self._merge(company, change, 0)

    async def discard(self, entry_id: int) -> Decided:
        """Give an entry up, having exported it as a file that `apply_file` takes."""
        async with self._deciding:
            entry = self._entry(entry_id)
            change = self._vault.replica.quarantined_change(entry.id)
            path = self._place(f"{entry.company}-{_stamp()}-quarantine-{entry.id}.json")
            await asyncio.to_thread(kept_change.write, path, entry.company, change, _summary(entry))
            await self._vault.replica.discard(entry.id)
            return Decided(entry.company, entry.batches, change.key_count, path)

    def _entry(self, entry_id: int) -> Quarantined:
        found = next((one for one in self._vault.replica.quarantined() if one.id == entry_id), None)
        if found is None:
            raise UsageError(
                f"there is no quarantine entry {entry_id}", next_step="See 'standfast quarantine list'."
            )
        return found

    async def _merge(self, company: Company, change: Change, batches: int) -> Decided:
        if self._vault.outage.state not in _ANSWERING:
            raise DatabaseUnavailable(
                "PostgreSQL is away: what it has cannot be merged with the quarantined writes",
                next_step="Apply it once PostgreSQL is back; until then it stays in quarantine.",
                cause="timeout",
            )
        if self._vault.held.barred is not None:
            raise self._vault.held.barred
        async with self._vault.held.locked(company) as holding:
            _refuse_open(holding)
            try:
                archive = await self._replaced(holding, change)
                await self._write(holding, change)
            finally:
                self._vault.release(company)
        return Decided(company, batches, change.key_count, archive)

    async def _replaced(self, holding: Holding, change: Change) -> Path | None:
        """Claim the company and export what it is now."""
        company, has_creds = holding.company, change.creds is not None
        claimed = holding.claimed and holding.is_ready
        if not claimed and not await self._vault.keeper.acquire(holding, create=has_creds):
            raise CompanyUnknown(
                f"{company} has no auth state any more, and the entry holds keys only: there is nothing to merge with",
                next_step="Discard it: 'standfast quarantine discard'; an export is kept.",
            )
        present = self._vault.replica.everything(holding.number)
        if present.creds is None:
            return None
        if change.creds is not None and identity_key(change.creds) != identity_key(present.creds):
            raise CompanyInUse(
                f"{company} was paired anew since: the quarantined writes are of another identity",
                next_step="Discard them: 'standfast quarantine discard'; an export is kept.",
            )
        folder = self._place(f"{company}-{_stamp()}-replaced")
        keys = {key_type: _values(ids) for key_type, ids in present.keys.items()}
        await asyncio.to_thread(export_folder, folder, present.creds, keys)
        # Stale `true` there would leave a group's members waiting for a sender key for ever; it is rebuilt.
        stale = {*present.keys.get(_MEMORY, {}), *change.keys.get(_MEMORY, {})}
        if stale:
            change.keys[_MEMORY] = dict.fromkeys(stale)
        return folder

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
                f"PostgreSQL has not confirmed the merged writes of {holding.company} within {CONFIRM_TIMEOUT_S:g} s",
                next_step="They lie in the journal and in quarantine; apply again once PostgreSQL is back.",
                cause="timeout",
            ) from None

    async def _compared(self, company: Company, change: Change) -> dict[str, int] | None:
        counts = {"same": 0, "different": 0, "absent": 0}
        left = {
            (key_type, key_id): value
            for key_type, ids in change.keys.items()
            for key_id, value in ids.items()
        }
        if change.creds is not None:
            left[("", "")] = change.creds
        try:
            async with (
                asyncio.timeout(COMPARE_TIMEOUT_S),
                aclosing(self._replication.stream(company)) as chunks,
            ):
                async for rows in chunks:
                    for key_type, key_id, value in rows:
                        place = (key_type or "", key_id or "")
                        if place in left:
                            same = _equal(left.pop(place), value)
                            counts["same" if same else "different"] += 1
        except (StandfastError, TimeoutError):
            return None
        # What is to be deleted and is not there is just so.
        counts["same"] += sum(value is None for value in left.values())
        counts["absent"] = sum(value is not None for value in left.values())
        return counts

    def _place(self, name: str) -> Path:
        self._archive.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._archive / name


def entries_of(replica: Replica) -> list[dict[str, Any]]:
    """What `Decisions.entries` says, of a replica without its vault."""
    return [_summary(entry) for entry in replica.quarantined()]


def _refuse_open(holding: Holding) -> None:
    if holding.is_open:
        raise CompanyInUse(
            f"{holding.company} is open: its session would go on with keys that are replaced under it",
            next_step=f"Stop it first: 'standfast stop {holding.company}' (or the bot that uses it); then apply again.",
        )


def _summary(entry: Quarantined) -> dict[str, Any]:
    return {
        "id": entry.id,
        "company": entry.company,
        "epoch": entry.epoch,
        "fenced_by": entry.fenced_by,
        "at": entry.at,
        "reason": entry.reason,
        "batches": entry.batches,
        "bytes": entry.bytes,
    }


def _of_type(key_type: str, ids: dict[str, bytes | None]) -> dict[str, Any]:
    names = sorted(ids)
    return {
        "type": key_type,
        "set": sum(value is not None for value in ids.values()),
        "deleted": sum(value is None for value in ids.values()),
        "ids": [masked(name) for name in names[:IDS_SHOWN]],
    }


def _values(ids: dict[str, bytes | None]) -> dict[str, bytes]:
    return {key_id: value for key_id, value in ids.items() if value is not None}


def _equal(ours: bytes | None, theirs: bytes) -> bool:
    return ours is not None and bool(orjson.loads(ours) == orjson.loads(theirs))


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
