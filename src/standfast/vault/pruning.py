"""Removing keys that nobody has written since somebody looked: what a cleanup asks of the vault.

Invariant: a key goes only where its value is the one that was seen, and nothing that was begun before or meanwhile
writes it; keys that belong together go together or stay. The removal is a batch like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import orjson

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseUnavailable
from standfast.vault.holding import Holding
from standfast.vault.outage import State
from standfast.vault.vault import Vault

Place = tuple[str, str]
Unit = Mapping[Place, bytes]
"""Keys that go together, each with the JSON that PostgreSQL has of it."""
Note = Callable[[set[Place]], dict[str, dict[str, bytes | None]]]

QUIET_TIMEOUT_S = 5.0
CONFIRM_TIMEOUT_S = 30.0
_POLL_S = 0.002
_PENDING_BYTES = 64 * 2**20
_SLICE = 20
_ANSWERING = frozenset({State.ONLINE, State.RECOVERING})


async def remove_unwritten(
    vault: Vault, company: Company, units: Sequence[Unit], note: Note | None = None
) -> set[Place]:
    """Remove the units of which every key is as it was seen; what was removed. It is durable here when this returns,
    and on its way to PostgreSQL (`confirmed`). `note` makes keys that are written in the same batch. `CompanyInUse`
    where the company is not open here."""
    holding = _open(vault, company)
    with _watched(holding) as touched:
        # What was begun before is durable, and so can be read, once this has passed.
        await _quiet(vault, holding)
        same = await _same(vault, holding, units, _pending(vault, holding))
        removed = {place for unit in same if not touched & unit.keys() for place in unit}
        if removed:
            keys: dict[str, dict[str, bytes | None]] = note(removed) if note is not None else {}
            for key_type, key_id in removed:
                keys.setdefault(key_type, {})[key_id] = None
            # Nothing is awaited between the look and this: it stands in the journal before any later write.
            await vault.set_keys(company, keys)
        return removed


async def put_back_absent(vault: Vault, company: Company, values: Mapping[Place, bytes]) -> set[Place]:
    """Write those keys that are absent, in one batch; which they were. A key that is being written counts as there.
    Durable, and on its way to PostgreSQL, as `remove_unwritten`."""
    holding = _open(vault, company)
    with _watched(holding) as touched:
        await _quiet(vault, holding)
        absent = {
            (key_type, key_id)
            for key_type, key_id in values.keys() - touched
            if not vault.replica.keys(holding.number, key_type, [key_id])
        }
        keys: dict[str, dict[str, bytes | None]] = {}
        for key_type, key_id in absent:
            keys.setdefault(key_type, {})[key_id] = values[key_type, key_id]
        await vault.set_keys(company, keys)
        return absent


@contextlib.contextmanager
def _watched(holding: Holding) -> Iterator[set[Place]]:
    """What is written to meanwhile."""
    if holding.touched is not None:
        raise CompanyInUse(f"keys of {holding.company} are being removed or put back already")
    touched: set[Place] = set()
    holding.touched = touched
    try:
        yield touched
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


def _pending(vault: Vault, holding: Holding) -> set[Place] | None:
    """Keys of which PostgreSQL lacks a write, be it of the same value; None: all."""
    ahead = vault.replica.ahead(holding.number, holding.applied, _PENDING_BYTES)
    if ahead is None:
        return set()
    record = vault.replica.record(holding.company)
    if ahead.change.cleared or record is None or ahead.last < record.sequence:
        return None
    return {(key_type, key_id) for key_type, ids in ahead.change.keys.items() for key_id in ids}


async def _same(
    vault: Vault, holding: Holding, units: Sequence[Unit], pending: set[Place] | None
) -> list[Unit]:
    """The units of which the replica has every key as it was seen. Gives way to others every few units: what they write
    meanwhile is in `holding.touched`."""
    if pending is None:
        return []
    number, epoch = holding.number, holding.epoch
    same: list[Unit] = []
    for start in range(0, len(units), _SLICE):
        slice_ = units[start : start + _SLICE]
        same += [unit for unit in slice_ if not pending & unit.keys() and _is_as_seen(vault, number, unit)]
        await asyncio.sleep(0)
        _open(vault, holding.company)
        if (holding.number, holding.epoch) != (number, epoch):
            raise CompanyInUse(
                f"{holding.company} was taken anew meanwhile", next_step="Run the cleanup again."
            )
    return same


def _is_as_seen(vault: Vault, number: int, unit: Unit) -> bool:
    return all(
        _is_same(vault.replica.keys(number, key_type, [key_id]).get(key_id), seen)
        for (key_type, key_id), seen in unit.items()
    )


def _is_same(here: bytes | None, seen: bytes) -> bool:
    if here is None or here == seen:
        return here is not None
    try:
        return bool(orjson.loads(here) == orjson.loads(seen))
    except orjson.JSONDecodeError:
        return False


def _unconfirmed(company: Company) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"PostgreSQL has not confirmed that keys of {company} were removed",
        next_step="They go when PostgreSQL is back, and can be put back; then run the cleanup again.",
        cause="timeout",
    )
