"""The journal's rows: what was acknowledged, batch by batch, until PostgreSQL has it.

Invariant: a company's rows follow each other without a gap: each begins one behind the end of the one before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.vault.storage.account import Account, Batch, place_of_batch
from standfast.vault.storage.cipher import Cipher, Unreadable
from standfast.vault.storage.commits import APPEND, Row
from standfast.vault.storage.rows import Entry

COMPACT_BYTES = 8 * 2**20  # read into one batch at a time
_SELECT = "select number, first, last, at, change from journal where position = ?"
# Where two begin alike the longer one first: it was made of the others, which were not deleted yet.
_ALL = "select position, number, first, last, at, size from journal order by number, first, last desc"
_DELETE = "delete from journal where position = ?"

Found = tuple[int, int, int, int, float, int]
_Wire = tuple[bool, bytes | None, dict[str, dict[str, bytes | None]]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


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


def load(connection: sqlite3.Connection, accounts: dict[int, Account]) -> tuple[list[Entry], int]:
    """Tell each account which rows are its; the rows that nobody needs, and the highest position. Raises
    `Unreadable` where one is missing."""
    useless: list[Entry] = []
    highest = 0
    for position, number, first, last, at, size in connection.execute(_ALL):
        highest = max(highest, position)
        entry = Entry(position, last, size, at)
        account = accounts.get(number)
        if account is None or not account.found(first, entry):
            useless.append(entry)
    for account in accounts.values():
        account.check_found()
    return useless, highest


def read(connection: sqlite3.Connection, cipher: Cipher, account: Account, position: int) -> Batch:
    """The company's batch at `position`. Raises `Unreadable`."""
    found = connection.execute(_SELECT, (position,)).fetchone()
    if found is None or found[0] != account.number:
        raise Unreadable("a row of the journal is missing")
    _, first, last, at, change = found
    return Batch(first, last, unsealed(cipher, account.company, first, last, change), at)


def batches(connection: sqlite3.Connection, cipher: Cipher, account: Account, after: int) -> Iterator[Batch]:
    """The batches behind `after`, in order. Raises `Unreadable`, also where one is missing.
    One that holds `after` within it comes too: it was compacted since."""
    expected = after + 1
    for position in account.rows.behind(after):
        batch = read(connection, cipher, account, position)
        if batch.first > expected or batch.last < expected:
            raise Unreadable(f"the journal lacks the batch {expected}")
        yield batch
        expected = batch.last + 1


def compacted(connection: sqlite3.Connection, cipher: Cipher, account: Account) -> Batch | None:
    """What the oldest batches that PostgreSQL lacks, `COMPACT_BYTES` of them, do together; None: there are not two."""
    merged: Batch | None = None
    read_bytes = count = 0
    for batch in batches(connection, cipher, account, account.applied):
        if read_bytes > COMPACT_BYTES:
            break
        if merged is None:
            merged = batch
        else:
            merged.change.take(batch.change)
            merged = Batch(merged.first, batch.last, merged.change, merged.at)
            read_bytes += batch.change.size
        count += 1
    return merged if count > 1 else None


def put(
    connection: sqlite3.Connection,
    cipher: Cipher,
    account: Account,
    batch: Batch,
    position: int | None = None,
) -> int:
    """Write a batch that is not at the end; its size."""
    change = sealed(cipher, account.company, batch.first, batch.last, batch.change)
    row = (position, account.number, batch.first, batch.last, batch.at, len(change), change)
    connection.execute(APPEND, row)
    return len(change)


def delete(connection: sqlite3.Connection, positions: Iterable[int]) -> None:
    """Delete the rows there."""
    connection.executemany(_DELETE, ((position,) for position in positions))
