"""`Settling`: carries fresh values from the journal into the replica's tables, and trims what PostgreSQL has.

A write costs one row at the journal's end; its values reach the tables up to a second or two later, and what was
written again meanwhile reaches them once. Invariant: a company's row says `settled` only of batches whose values the
same transaction, or an earlier one, put into the tables; no batch is trimmed before it is both applied and settled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from standfast.vault.storage import journal
from standfast.vault.storage.account import Account, Place, place_of_value
from standfast.vault.storage.cipher import Cipher
from standfast.vault.storage.rows import Entry
from standfast.vault.storage.slots import Slots

FRESH_LIMIT_BYTES = 8 * 2**20  # in memory; above it values are carried over at once, however hot
# Carried in one commit: beside a writer who waits, or with nobody waiting.
_PLACES_BESIDE, _PLACES_ALONE = 32, 1_024
_ROWS_BESIDE, _ROWS_ALONE = 32, 512  # deleted in one commit
_ROWS_FREED = 4_096  # of a company at a time; that writes nothing
PUT = (
    "insert into replica (number, type, id, value) values (?, ?, ?, ?)"
    " on conflict (number, type, id) do update set value = excluded.value"
)
DROP = "delete from replica where number = ? and type = ? and id = ?"
STATE = "update companies set state = ? where number = ?"


@dataclass(slots=True)
class _Move:
    """What one commit does for one company: `places` go into the tables; `rows` are needed no more after it."""

    account: Account
    places: list[tuple[Place, bytes | None, int]]
    settled: int
    state: bytes
    applied: int
    rows: list[Entry]


@dataclass(slots=True)
class _Errand:
    cipher: Cipher
    moves: list[_Move]
    garbage: list[int]
    on_done: Callable[[_Errand], None]

    def run(self, connection: sqlite3.Connection) -> None:
        for move in self.moves:
            _put(connection, self.cipher, move)
            connection.execute(STATE, (move.state, move.account.number))
        if self.garbage:
            journal.delete(connection, self.garbage)

    def done(self) -> None:
        self.on_done(self)


class Settling:
    """Decides what each commit carries. Companies in `_active` have something to carry or to trim, sooner or later;
    those in `_due`, now."""

    def __init__(self, cipher: Cipher, slots: Slots) -> None:
        self._cipher = cipher
        self._slots = slots
        self._active: dict[int, Account] = {}
        self._due: dict[int, Account] = {}

    @property
    def is_active(self) -> bool:
        """Whether anything is left to carry or to trim."""
        return bool(self._active) or self._slots.has_garbage

    @property
    def is_due(self) -> bool:
        """Whether a commit now would carry or trim something."""
        return bool(self._due) or self._slots.has_garbage

    def active(self) -> list[Account]:
        """Those that may have something to carry; what was written since the last `tick` is among it."""
        return list(self._active.values())

    def touch(self, account: Account) -> None:
        """The company was written to, or PostgreSQL has more of it."""
        self._active[account.number] = account

    def leave(self, account: Account) -> None:
        """The company is taken out of the file."""
        self._active.pop(account.number, None)
        self._due.pop(account.number, None)

    def tick(self, *, everything: bool = False) -> None:
        """A second has passed: what was written before the last one, and not again since, is to be carried."""
        crowded = everything or sum(a.fresh_bytes for a in self._active.values()) > FRESH_LIMIT_BYTES
        for account in tuple(self._active.values()):
            account.due = account.sequence if crowded else account.ripe
            account.ripe = account.sequence
            if _has_due(account):
                self._due[account.number] = account
            elif _is_settled(account):
                del self._active[account.number]

    def errand(self, idle: bool) -> _Errand | None:
        """What the next commit is to carry; None: nothing is due."""
        if not self.is_due:
            return None
        places = _PLACES_ALONE if idle else _PLACES_BESIDE
        moves = []
        for account in self._due.values():
            move = self._move(account, places)
            moves.append(move)
            places -= 1 + len(move.places)
            if places <= 0:
                break
        garbage = self._slots.garbage(_ROWS_ALONE if idle else _ROWS_BESIDE)
        return _Errand(self._cipher, moves, garbage, self._done)

    def _move(self, account: Account, places: int) -> _Move:
        chosen = _oldest(account, places)
        settled = _settled(account, len(chosen))
        rows = account.rows.oldest(min(account.applied, settled), _ROWS_FREED)
        return _Move(account, chosen, settled, account.sealed(self._cipher, settled), account.applied, rows)

    def _done(self, errand: _Errand) -> None:
        self._slots.deleted(len(errand.garbage))
        for move in errand.moves:
            account = move.account
            for place, _, sequence in move.places:
                account.wither(place, sequence)
            account.settled = max(account.settled, move.settled)
            account.noted = max(account.noted, move.applied)
            account.rows.drop(len(move.rows))
            self._slots.give(move.rows)
            if not _has_due(account):
                self._due.pop(account.number, None)


def _has_due(account: Account) -> bool:
    if account.noted < account.applied or account.rows.oldest(min(account.applied, _settled(account, 0)), 1):
        return True
    for _, sequence in account.fresh.values():
        return sequence <= account.due
    return account.settled < account.sequence


def _is_settled(account: Account) -> bool:
    return not account.fresh and account.settled >= account.sequence


def _oldest(account: Account, limit: int) -> list[tuple[Place, bytes | None, int]]:
    chosen: list[tuple[Place, bytes | None, int]] = []
    for place, (value, sequence) in account.fresh.items():
        if sequence > account.due:
            break
        # A batch is carried over whole, so that what is not settled is fresh to the last value.
        if len(chosen) >= limit and chosen[-1][2] != sequence:
            break
        chosen.append((place, value, sequence))
    return chosen


def _settled(account: Account, carried: int) -> int:
    """Up to which batch the tables are complete once the oldest `carried` values are in them."""
    for number, (_, sequence) in enumerate(account.fresh.values()):
        if number >= carried:
            return max(account.settled, sequence - 1)
    return account.sequence


def _put(connection: sqlite3.Connection, cipher: Cipher, move: _Move) -> None:
    number, company = move.account.number, move.account.company
    rows = [
        (number, *place, cipher.seal(value, place_of_value(company, *place)))
        for place, value, _ in move.places
        if value is not None
    ]
    connection.executemany(PUT, rows)
    gone = [(number, *place) for place, value, _ in move.places if value is None]
    if gone:
        connection.executemany(DROP, gone)
