"""The journal's rows: what was acknowledged, batch by batch, until PostgreSQL has it.

Invariant: a company's rows follow each other without a gap: each begins one behind the end of the one before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.vault.account import Account, Batch, place_of_batch
from standfast.vault.cipher import Cipher, Unreadable
from standfast.vault.commits import APPEND, Row
from standfast.vault.slots import LARGEST_BYTES

COMPACT_BYTES = 8 * 2**20  # read into one batch at a time
_ORDER = "from journal where number = ? and first > ? order by first"
_SELECT = f"select first, last, at, change {_ORDER}"
_SUMS = "select number, count(*), sum(size), max(last), min(at) from journal group by number"
_OBSOLETE = (
    "select position, size, last from journal where number = ? and last > ? and last <= ?"
    " order by first limit ?"
)
_DELETE = "delete from journal where position = ?"
_OLDEST = "select at from journal where number = ? and last > ? order by first limit 1"
_WITHIN = "delete from journal where number = ? and first >= ? and last <= ? returning size"
_Wire = tuple[bool, bytes | None, dict[str, dict[str, bytes | None]]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


@dataclass(frozen=True, slots=True)
class Sum:
    """What lies in the journal of one company."""

    batches: int
    size: int
    last: int
    since: float


@dataclass(frozen=True, slots=True)
class Shorter:
    """By how much a journal became shorter, and whether it may become so again."""

    more: bool
    batches: int = 0
    size: int = 0


def sealed(cipher: Cipher, company: Company, first: int, last: int, change: Change) -> bytes:
    """A batch as it lies on disk."""
    return cipher.seal(
        _encode((change.cleared, change.creds, change.keys)), place_of_batch(company, first, last)
    )


def unsealed(cipher: Cipher, company: Company, first: int, last: int, sealed_change: bytes) -> Change:
    """Raises `Unreadable`."""
    try:
        cleared, creds, keys = _decode(cipher.open(sealed_change, place_of_batch(company, first, last)))
    except msgspec.MsgspecError:
        raise Unreadable("a batch of the journal is malformed") from None
    return Change(keys, creds, cleared)


def row(cipher: Cipher, position: int, account: Account, sequence: int, change: Change, at: float) -> Row:
    """The row of a new batch, to be written at `position`. It begins where the former one ended: numbers that were
    skipped go to it."""
    first = account.ending + 1
    change_bytes = sealed(cipher, account.company, first, sequence, change)
    return position, account.number, first, sequence, at, len(change_bytes), change_bytes


def sums(connection: sqlite3.Connection) -> dict[int, Sum]:
    """What the journal holds, by company number; read from its index alone."""
    return {number: Sum(*rest) for number, *rest in connection.execute(_SUMS)}


def batches(connection: sqlite3.Connection, cipher: Cipher, account: Account, after: int) -> Iterator[Batch]:
    """The batches behind `after`, in order. Raises `Unreadable`, also where one is missing.
    One that holds `after` within it comes too: it was compacted since."""
    begin = connection.execute(
        "select max(first) from journal where number = ? and first <= ? and last > ?",
        (account.number, after, after),
    ).fetchone()[0]
    expected = begin if begin is not None else after + 1
    for first, last, at, change in connection.execute(_SELECT, (account.number, expected - 1)):
        if first != expected:
            raise Unreadable(f"the journal lacks the batches {expected} to {first - 1}")
        yield Batch(first, last, unsealed(cipher, account.company, first, last, change), at)
        expected = last + 1
    if expected <= account.ended:
        raise Unreadable(f"the journal lacks the batches {expected} to {account.ended}")


@dataclass(slots=True)
class Trimmed:
    """Rows that are needed no more: how many, their bytes, where the last of them ends, and which positions were kept
    to be written to again. `since`: when the oldest row that is still needed was written."""

    rows: int = 0
    size: int = 0
    last: int = 0
    kept: list[int] = field(default_factory=list)
    since: float | None = None


def trim(
    connection: sqlite3.Connection, number: int, span: tuple[int, int], limit: int, room: int
) -> Trimmed:
    """Give up at most `limit` rows that end within `span` (above the first, up to the second)."""
    trimmed = Trimmed()
    for position, size, last in connection.execute(_OBSOLETE, (number, *span, limit)).fetchall():
        trimmed.rows += 1
        trimmed.size += size
        trimmed.last = last
        if len(trimmed.kept) < room and size <= LARGEST_BYTES:
            trimmed.kept.append(position)
        else:
            connection.execute(_DELETE, (position,))
    found = connection.execute(_OLDEST, (number, span[1])).fetchone()
    trimmed.since = None if found is None else found[0]
    return trimmed


def compact(connection: sqlite3.Connection, cipher: Cipher, account: Account, position: int) -> Shorter:
    """Make one batch of the oldest ones, `COMPACT_BYTES` of them, and write it at `position`."""
    merged: Batch | None = None
    read_bytes = 0
    for batch in batches(connection, cipher, account, account.applied):
        if merged is None:
            merged = batch
        elif read_bytes > COMPACT_BYTES or batch.last > account.ended:
            break
        else:
            merged.change.take(batch.change)
            merged = Batch(merged.first, batch.last, merged.change, merged.at)
        read_bytes += batch.change.size
    if merged is None:
        return Shorter(more=False)
    gone = [
        size
        for (size,) in connection.execute(_WITHIN, (account.number, merged.first, merged.last)).fetchall()
    ]
    size = put(connection, cipher, account, merged, position)
    more = merged.last < account.ended and len(gone) > 1
    return Shorter(more, len(gone) - 1, sum(gone) - size)


def put(
    connection: sqlite3.Connection,
    cipher: Cipher,
    account: Account,
    batch: Batch,
    position: int | None = None,
) -> int:
    """Write a batch that is not at the end; its size."""
    change = sealed(cipher, account.company, batch.first, batch.last, batch.change)
    connection.execute(
        APPEND, (position, account.number, batch.first, batch.last, batch.at, len(change), change)
    )
    return len(change)
