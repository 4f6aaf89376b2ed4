"""`Settling`: carries fresh values from the journal into the replica's tables, and trims what PostgreSQL has.

A write costs one row at the journal's end; its values reach the tables up to a second or two later, and what was
written again meanwhile reaches them once. Invariant: a company's row says `settled` only of batches whose values the
same transaction, or an earlier one, put into the tables; no batch is trimmed before it is both applied and settled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from standfast.vault import journal
from standfast.vault.account import Account, Place, place_of_value
from standfast.vault.cipher import Cipher
from standfast.vault.journal import Trimmed
from standfast.vault.slots import Slots

FRESH_LIMIT_BYTES = 8 * 2**20  # in memory; above it values are carried over at once, however hot
# Carried in one commit: beside a writer who waits, or with nobody waiting.
_PLACES_BESIDE, _PLACES_ALONE = 32, 1_024
_ROWS_BESIDE, _ROWS_ALONE = 32, 512  # trimmed in one commit
PUT = (
    "insert into replica (number, type, id, value) values (?, ?, ?, ?)"
    " on conflict (number, type, id) do update set value = excluded.value"
)
DROP = "delete from replica where number = ? and type = ? and id = ?"
STATE = "update companies set state = ? where number = ?"


@dataclass(slots=True)
class _Move:
    """What one commit does for one company."""

    account: Account
    places: list[tuple[Place, bytes | None, int]]
    settled: int
    state: bytes
    trim_to: int = 0
    trim_rows: int = 0
    room: int = 0
    trimmed: Trimmed = field(default_factory=Trimmed)


@dataclass(slots=True)
class _Errand:
    cipher: Cipher
    moves: list[_Move]
    on_done: Callable[[list[_Move]], None]

    def run(self, connection: sqlite3.Connection) -> None:
        for move in self.moves:
            _put(connection, self.cipher, move)
            connection.execute(STATE, (move.state, move.account.number))
            if move.trim_rows:
                _trim(connection, move)

    def done(self) -> None:
        self.on_done(self.moves)


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
        return bool(self._active)

    @property
    def is_due(self) -> bool:
        """Whether a commit now would carry or trim something."""
        return bool(self._due)

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
        if not self._due:
            return None
        places = _PLACES_ALONE if idle else _PLACES_BESIDE
        rows = _ROWS_ALONE if idle else _ROWS_BESIDE
        moves = []
        room = self._slots.room
        for account in self._due.values():
            move = self._move(account, places, rows)
            move.room = max(0, room)
            moves.append(move)
            places -= len(move.places)
            rows -= move.trim_rows
            room -= move.trim_rows
            if places <= 0 or rows <= 0:
                break
        return _Errand(self._cipher, moves, self._done)

    def _move(self, account: Account, places: int, rows: int) -> _Move:
        chosen = _oldest(account, places)
        settled = _settled(account, len(chosen))
        trim_to = min(account.applied, settled)
        if account.trimmed < trim_to and not account.batches:
            account.trimmed = trim_to
        needed = rows if account.trimmed < trim_to else 0
        return _Move(account, chosen, settled, account.sealed(self._cipher, settled), trim_to, needed)

    def _done(self, moves: Iterable[_Move]) -> None:
        for move in moves:
            account = move.account
            for place, _, sequence in move.places:
                account.wither(place, sequence)
            account.settled = max(account.settled, move.settled)
            if move.trim_rows:
                self._trimmed(account, move)
            if not _has_due(account):
                self._due.pop(account.number, None)

    def _trimmed(self, account: Account, move: _Move) -> None:
        trimmed = move.trimmed
        account.batches -= trimmed.rows
        account.journal_bytes -= trimmed.size
        account.since = trimmed.since
        account.trimmed = move.trim_to if trimmed.rows < move.trim_rows else trimmed.last
        self._slots.give(trimmed.kept)


def _has_due(account: Account) -> bool:
    if account.trimmed < min(account.applied, _settled(account, 0)):
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


def _trim(connection: sqlite3.Connection, move: _Move) -> None:
    span = (move.account.trimmed, move.trim_to)
    move.trimmed = journal.trim(connection, move.account.number, span, move.trim_rows, move.room)
