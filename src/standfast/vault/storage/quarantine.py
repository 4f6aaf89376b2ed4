"""The quarantine: journals of companies that another owner has written since, kept for an operator to decide.

Invariant: a batch enters wholly in the transaction that takes it from the journal, and leaves only by `discard`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.vault.storage.account import Account
from standfast.vault.storage.cipher import Cipher, Unreadable
from standfast.vault.storage.journal import unsealed

_INSERT = "insert into quarantine (company, epoch, fenced_by, at, reason) values (?, ?, ?, ?, ?)"
_MOVE = (
    "insert into quarantined (id, first, last, at, size, change)"
    " select ?, first, last, at, size, change from journal where position = ?"
)
_LIST = (
    "select q.id, company, epoch, fenced_by, q.at, reason, count(b.id), coalesce(sum(size), 0)"
    " from quarantine q left join quarantined b on b.id = q.id group by q.id order by q.id"
)
_ORPHAN = "select 1 from quarantined where id not in (select id from quarantine) limit 1"
_SELECT = (
    "select company, first, last, change from quarantined b join quarantine q on q.id = b.id"
    " where b.id = ? order by first"
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A journal that was set aside at `at` (wall time): written under `epoch`, when PostgreSQL was at `fenced_by`."""

    id: int
    company: Company
    epoch: int
    fenced_by: int
    at: float
    reason: str
    batches: int
    bytes: int


def enter(
    connection: sqlite3.Connection, account: Account, reason: str, fenced_by: int, at: float
) -> int | None:
    """Move what PostgreSQL has not of the company's journal; the id, or None where it has all."""
    positions = list(account.rows.behind(account.applied))
    if not positions:
        return None
    entry = connection.execute(_INSERT, (account.company, account.epoch, fenced_by, at, reason)).lastrowid
    connection.executemany(_MOVE, ((entry, position) for position in positions))
    return entry


def entries(connection: sqlite3.Connection) -> list[Quarantined]:
    """All of it, oldest first. Raises `Unreadable` where entries and batches do not belong together: neither bears a
    seal that says so."""
    found = [Quarantined(*row) for row in connection.execute(_LIST)]
    if any(entry.batches == 0 for entry in found) or connection.execute(_ORPHAN).fetchone() is not None:
        raise Unreadable("entries of the quarantine and their batches do not belong together")
    return found


def change(connection: sqlite3.Connection, cipher: Cipher, entry: int) -> Change:
    """What its batches do together. `KeyError` where there is no such entry; raises `Unreadable`."""
    rows = connection.execute(_SELECT, (entry,)).fetchall()
    if not rows:
        raise KeyError(f"there is no quarantine {entry}")
    together = Change()
    for company, first, last, sealed in rows:
        together.take(unsealed(cipher, company, first, last, sealed))
    return together


def discard(connection: sqlite3.Connection, entry: int) -> bool:
    """Delete it for good; whether it was there."""
    connection.execute("delete from quarantined where id = ?", (entry,))
    return connection.execute("delete from quarantine where id = ?", (entry,)).rowcount > 0
