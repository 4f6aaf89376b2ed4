"""Removing keys that nobody has written since somebody looked: what a cleanup asks of the vault.

Invariant: a key goes only where its value is the one that was seen, and nothing that was begun before or meanwhile
writes it; keys that belong together go together or stay. The removal is a batch like any other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import orjson

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseUnavailable
from standfast.vault.holding import Holding
from standfast.vault.outage import State
from standfast.vault.vault import Vault

Place = tuple[str, str]
Unit = Mapping[Place, bytes]
"""Keys that go together, each with the JSON that PostgreSQL has of it."""

QUIET_TIMEOUT_S = 5.0
CONFIRM_TIMEOUT_S = 30.0
_POLL_S = 0.002
_ANSWERING = frozenset({State.ONLINE, State.RECOVERING})


async def remove_unwritten(vault: Vault, company: Company, units: Sequence[Unit]) -> set[Place]:
    """Remove the units of which every key is as it was seen; what was removed. It is durable here when this returns,
    and on its way to PostgreSQL (`confirmed`). `CompanyInUse` where the company is not open here."""
    holding = _open(vault, company)
    if holding.touched is not None:
        raise CompanyInUse(f"keys of {company} are being removed already")
    holding.touched = set()
    try:
        # What was begun before is durable, and so can be read, once this has passed.
        await _quiet(vault, holding)
        unwritten = [unit for unit in units if _is_unwritten(vault, holding, unit)]
        removed = {place for unit in unwritten for place in unit}
        if removed:
            keys: dict[str, dict[str, bytes | None]] = {}
            for key_type, key_id in removed:
                keys.setdefault(key_type, {})[key_id] = None
            # Nothing is awaited between the look and this: it stands in the journal before any later write.
            await vault.set_keys(company, keys)
        return removed
    finally:
        holding.touched = None


async def confirmed(vault: Vault, company: Company) -> None:
    """Return once PostgreSQL has everything that was acknowledged of the company until now. `DatabaseUnavailable` after
    30 s, or where it is away."""
    holding = vault.held.get(company)
    if holding is None or not holding.pending:
        return
    if vault.outage.state not in _ANSWERING:
        raise _unconfirmed(company)
    vault.replicator.wake(holding)
    vault.replicator.hurry()
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT_S):
            await holding.reached(holding.sequence)
    except TimeoutError:
        raise _unconfirmed(company) from None


def _open(vault: Vault, company: Company) -> Holding:
    holding = vault.held.get(company)
    if holding is None or not holding.is_open or not holding.claimed or not holding.is_ready:
        raise CompanyInUse(f"{company} is not open here", next_step="Try again once its session runs.")
    return holding


async def _quiet(vault: Vault, holding: Holding) -> None:
    taken = vault.replica.taken(holding.number)
    ends = time.monotonic() + QUIET_TIMEOUT_S
    while not _is_durable(vault, holding, taken):
        if time.monotonic() > ends:
            raise CompanyInUse(f"writes of {holding.company} did not become durable in {QUIET_TIMEOUT_S:g} s")
        await asyncio.sleep(_POLL_S)
        _open(vault, holding.company)


def _is_durable(vault: Vault, holding: Holding, taken: int) -> bool:
    record = vault.replica.record(holding.company)
    # Where a commit failed, what it had taken was given back.
    return record is not None and record.sequence >= min(taken, vault.replica.taken(holding.number))


def _is_unwritten(vault: Vault, holding: Holding, unit: Unit) -> bool:
    assert holding.touched is not None
    if any(place in holding.touched for place in unit):
        return False
    for (key_type, key_id), seen in unit.items():
        here = vault.replica.keys(holding.number, key_type, [key_id]).get(key_id)
        if here is None or orjson.loads(here) != orjson.loads(seen):
            return False
    return True


def _unconfirmed(company: Company) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"PostgreSQL has not confirmed that keys of {company} were removed",
        next_step="They go when PostgreSQL is back, and can be put back; then run the cleanup again.",
        cause="timeout",
    )
