"""Companies in the vault's file: their rows, and how a replica is filled from PostgreSQL.

Each function is a step of a transaction. Invariant: a company is marked complete only by the step that ends its
filling, and until then nothing of it is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from standfast.authstate.change import Change
from standfast.vault.storage import journal
from standfast.vault.storage.account import Account, Batch, amended, place_of_value
from standfast.vault.storage.cipher import Cipher, Unreadable
from standfast.vault.storage.rows import Entry
from standfast.vault.storage.schema import CREDS
from standfast.vault.storage.settling import PUT

FilledRow = tuple[str | None, str | None, bytes]
_ALL = "select number, company, state from companies order by number"
_INSERT = "insert into companies (company, state) values (?, ?)"
_STATE = "select state from companies where number = ?"
_SET_STATE = "update companies set state = ? where number = ?"
_VALUES = "select type, id, value from replica where number = ?"
_CLEAR = "delete from replica where number = ? and type <> ''"
_EMPTY = "delete from replica where number = ?"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the file holds. `useless` rows of the journal are needed by nobody; `highest` is the last position."""

    accounts: list[Account]
    useless: list[Entry]
    highest: int


def load(connection: sqlite3.Connection, cipher: Cipher) -> Loaded:
    """Every company with what its journal holds, its fresh values among it. Raises `Unreadable`."""
    accounts = {
        number: Account.unsealed(cipher, number, company, state)
        for number, company, state in connection.execute(_ALL).fetchall()
    }
    useless, highest = journal.load(connection, accounts)
    for account in accounts.values():
        for batch in journal.batches(connection, cipher, account, account.settled):
            account.freshen(batch.last, batch.change)
    return Loaded(list(accounts.values()), useless, highest)


def insert(connection: sqlite3.Connection, cipher: Cipher, account: Account) -> int:
    """A row for a company that has none; its number."""
    cursor = connection.execute(_INSERT, (account.company, account.sealed(cipher)))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def amend(connection: sqlite3.Connection, cipher: Cipher, account: Account, **fields: Any) -> None:
    """Change those fields of its row and no other: what is settled in the same transaction stands in it already."""
    found = connection.execute(_STATE, (account.number,)).fetchone()
    if found is None:
        raise ValueError(f"{account.company} is no longer in the vault's file")
    state = amended(cipher, account.company, found[0], fields)
    connection.execute(_SET_STATE, (state, account.number))


def delete(connection: sqlite3.Connection, account: Account) -> None:
    """Take the company out: its journal, its values, its row."""
    journal.delete(connection, list(account.rows.behind(0)))
    empty(connection, account.number)
    connection.execute("delete from companies where number = ?", (account.number,))


def clear_keys(connection: sqlite3.Connection, number: int) -> None:
    """Delete every key; the creds stay."""
    connection.execute(_CLEAR, (number,))


def empty(connection: sqlite3.Connection, number: int) -> None:
    """Delete every value."""
    connection.execute(_EMPTY, (number,))


def put_rows(
    connection: sqlite3.Connection, cipher: Cipher, account: Account, rows: Iterable[FilledRow]
) -> None:
    """Put values as they come from PostgreSQL: without type and id are the creds."""
    connection.executemany(PUT, _sealed_rows(cipher, account, rows))


def finish_fill(
    connection: sqlite3.Connection, cipher: Cipher, account: Account, sequence: int
) -> list[Batch]:
    """The tables are what PostgreSQL had at `sequence`; what the journal has beyond, which is fresh from now on. Where
    PostgreSQL has gone back in time, what it once confirmed is in the journal no more."""
    sequence = max(sequence, account.applied)
    ahead = (
        list(journal.batches(connection, cipher, account, sequence)) if account.sequence > sequence else []
    )
    if any(batch.change.cleared for batch in ahead):
        clear_keys(connection, account.number)
    reached = max(sequence, account.sequence)
    amend(connection, cipher, account, complete=True, settled=sequence, applied=sequence, sequence=reached)
    return ahead


def everything(connection: sqlite3.Connection, cipher: Cipher, account: Account) -> Change:
    """All values in the tables, as a change that replaces what is elsewhere. Raises `Unreadable`."""
    change = Change(cleared=True)
    for key_type, key_id, sealed in connection.execute(_VALUES, (account.number,)):
        value = cipher.open(sealed, place_of_value(account.company, key_type, key_id))
        if (key_type, key_id) == CREDS:
            change.creds = value
        else:
            change.keys.setdefault(key_type, {})[key_id] = value
    return change


def verify(connection: sqlite3.Connection, cipher: Cipher, account: Account, journaled: list[int]) -> None:
    """Raises `Unreadable` where a value of the company, or a batch of its journal (at those positions), is not what was
    written."""
    for key_type, key_id, sealed in connection.execute(_VALUES, (account.number,)):
        cipher.open(sealed, place_of_value(account.company, key_type, key_id))
    for position in journaled:
        journal.read(connection, cipher, account, position)


def check_structure(connection: sqlite3.Connection) -> None:
    """Raises `Unreadable` where the file's trees and indexes do not agree: a row could be missed."""
    found = connection.execute("pragma integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise Unreadable("the file's structure is damaged")


def _sealed_rows(
    cipher: Cipher, account: Account, rows: Iterable[FilledRow]
) -> Iterator[tuple[int, str, str, bytes]]:
    for key_type, key_id, value in rows:
        place = CREDS if key_type is None or key_id is None else (key_type, key_id)
        yield account.number, *place, cipher.seal(value, place_of_value(account.company, *place))
