"""Mending: what a company's journal becomes when some of its rows could not be read.

What was settled is in the replica's tables, and what was fresh in the memory of the process that had the file open:
either can stand in for rows that are gone. Invariant: batches follow each other without a gap, and what none of the
three gives is told as lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from standfast.authstate.change import Change
from standfast.vault.storage.account import Account, Batch
from standfast.vault.storage.schema import CREDS

_Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mended:
    """`lost` are the numbers that PostgreSQL lacks and nobody has; `whole`: nothing is missing here either."""

    batches: list[Batch]
    lost: list[_Range]
    whole: bool


def mended(account: Account, read: list[Batch], settled_state: Callable[[], Change] | None) -> Mended:
    """`read` are the batches there are, in order. `settled_state` gives what the tables hold; None: they cannot be
    relied on. An account that this process had open has its fresh values."""
    needed = min(account.applied, account.settled)
    batches = [batch for batch in read if batch.last > needed]
    gaps = list(_gaps(batches, needed + 1, account.sequence))
    if not gaps:
        return Mended(batches, [], True)
    since = account.rows.since or (batches[0].at if batches else 0.0)
    if account.fresh:
        batches = _from_memory(account, batches, since)
        gaps = list(_gaps(batches, needed + 1, account.sequence))
    if gaps and settled_state is not None and all(last <= account.settled for _, last in gaps):
        batches = _from_tables(account, batches, settled_state(), since)
        gaps = []
    lost = [(max(first, account.applied + 1), last) for first, last in gaps if last > account.applied]
    if gaps:
        batches = [batch for batch in batches if batch.last > account.applied]
    return Mended(_bridged(account, batches) if gaps else batches, lost, not gaps)


def _gaps(batches: list[Batch], expected: int, end: int) -> Iterator[_Range]:
    for batch in batches:
        if batch.first > expected:
            yield expected, batch.first - 1
        expected = max(expected, batch.last + 1)
    if expected <= end:
        yield expected, end


def _from_memory(account: Account, batches: list[Batch], since: float) -> list[Batch]:
    """One batch with all fresh values stands for everything behind `settled`."""
    change = Change()
    for (key_type, key_id), (value, _) in account.fresh.items():
        if (key_type, key_id) == CREDS:
            change.creds = value
        else:
            change.keys.setdefault(key_type, {})[key_id] = value
    change.cleared = account.cleared > account.settled
    earlier = [batch for batch in batches if batch.first <= account.settled]
    begin = max([account.settled, *(batch.last for batch in earlier)]) + 1
    return [*earlier, Batch(begin, account.sequence, change, since)]


def _from_tables(account: Account, batches: list[Batch], state: Change, since: float) -> list[Batch]:
    """One batch that is the whole state stands for everything up to `settled`."""
    later = [batch for batch in batches if batch.last > account.settled]
    end = later[0].first - 1 if later else account.settled
    return [Batch(account.applied + 1, end, state, since), *later]


def _bridged(account: Account, batches: list[Batch]) -> list[Batch]:
    """Each batch reaches back to the end of the one before, so that those behind a gap can be delivered."""
    bridged: list[Batch] = []
    expected = account.applied + 1
    for batch in batches:
        bridged.append(Batch(min(batch.first, expected), batch.last, batch.change, batch.at))
        expected = batch.last + 1
    if not bridged:
        account.sequence = account.applied
    elif expected <= account.sequence:
        last = bridged[-1]
        bridged[-1] = Batch(last.first, account.sequence, last.change, last.at)
    return bridged
