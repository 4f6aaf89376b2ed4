"""`Reading`: what can be asked of the vault's file, from the event loop and without waiting.

Invariant: what is read is what was acknowledged last; what cannot be read raises `AuthStateCorrupt` and is never an
absence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import AuthStateCorrupt, UsageError
from standfast.vault.storage import companies, journal, quarantine
from standfast.vault.storage.account import Account, Batch, Record, place_of_value
from standfast.vault.storage.commits import Commits
from standfast.vault.storage.damage import UNREADABLE, describe
from standfast.vault.storage.files import VaultFile
from standfast.vault.storage.quarantine import Quarantined
from standfast.vault.storage.schema import CREDS
from standfast.vault.storage.wishes import Wish

T = TypeVar("T")
_AMOUNTS = "select number, count(*), sum(length(value)) from replica group by number"
_VALUE = "select value from replica where number = ? and type = ? and id = ?"


class Reading:
    """The part of `Replica` that changes nothing."""

    def __init__(self, file: VaultFile) -> None:
        self._file = file
        self._cipher = file.cipher
        self._commits: Commits | None = None  # None: the file is being replaced
        self._accounts: dict[Company, Account] = {}
        self._numbers: dict[int, Account] = {}
        self._wishes: dict[Company, Wish] = {}

    def keys(self, number: int, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        """The values of those ids that exist."""
        account = self._readable(number)
        found = {}
        for key_id in ids:
            value = self._value(account, key_type, key_id)
            if value is not None:
                found[key_id] = value
        return found

    def taken(self, number: int) -> int:
        """The last batch that was given to the journal; it may not be durable yet."""
        return self._account(number).taken

    def creds(self, number: int) -> bytes | None:
        """The creds; None: there are none."""
        return self._value(self._readable(number), *CREDS)

    def _value(self, account: Account, key_type: str, key_id: str) -> bytes | None:
        fresh = account.fresh.get((key_type, key_id))
        if fresh is not None:
            return fresh[0]
        try:
            rows = self._reading.execute(_VALUE, (account.number, key_type, key_id)).fetchall()
            if not rows:
                return None
            return self._cipher.open(rows[0][0], place_of_value(account.company, key_type, key_id))
        except UNREADABLE as error:
            self._unreadable(error, account)

    def everything(self, number: int) -> Change:
        """The company's whole state, as a change that replaces what is elsewhere."""
        account = self._readable(number)
        try:
            change = companies.everything(self._reading, self._cipher, account)
        except UNREADABLE as error:
            self._unreadable(error, account)
        for (key_type, key_id), (value, _) in account.fresh.items():
            if (key_type, key_id) == CREDS:
                change.creds = value
            elif value is None:
                change.keys.get(key_type, {}).pop(key_id, None)
            else:
                change.keys.setdefault(key_type, {})[key_id] = value
        return change

    def batches(self, number: int, after: int, limit_bytes: int) -> list[Batch]:
        """Whole batches behind `after`, in order, until they exceed `limit_bytes`; one at least where there is any."""
        account = self._account(number)
        after = max(after, account.applied)
        if after >= account.sequence:
            return []
        try:
            # One transaction: SQLite would take and give its locks for every row.
            self._reading.execute("begin")
            try:
                return self._batches(account, after, limit_bytes)
            finally:
                self._reading.execute("rollback")
        except UNREADABLE as error:
            self._unreadable(error, account)

    def _batches(self, account: Account, after: int, limit_bytes: int) -> list[Batch]:
        taken, size = [], 0
        for batch in journal.batches(self._reading, self._cipher, account, after):
            if batch.last > account.sequence:
                break  # durable by now, and its writer not told yet
            taken.append(batch)
            size += batch.change.size
            if size >= limit_bytes:
                break
        return taken

    def ahead(self, number: int, after: int, limit_bytes: int) -> Batch | None:
        """What the batches behind `after` do together, or, where they exceed `limit_bytes`, as many of the first as
        reach it; None: there is none. Raises `AuthStateCorrupt`."""
        account = self._account(number)
        after = max(after, account.applied)
        if after >= account.sequence:
            return None
        change = account.fresh_since(after, limit_bytes)
        if change is not None:
            return Batch(after + 1, account.sequence, change, account.rows.since or 0.0)
        batches = self.batches(number, after, limit_bytes)
        if not batches:
            return None
        merged = batches[0].change
        for batch in batches[1:]:
            merged.take(batch.change)
        return Batch(after + 1, batches[-1].last, merged, batches[0].at)

    def companies(self) -> list[Record]:
        """Every company in the file."""
        return [account.record(self._has_creds(account)) for account in self._accounts.values()]

    def amounts(self) -> dict[int, tuple[int, int]]:
        """About how many keys each company has by number, and their bytes as they are kept: one scan."""
        rows = self._read(lambda c: c.execute(_AMOUNTS).fetchall())
        return {number: (count, size) for number, count, size in rows}

    def record(self, company: Company) -> Record | None:
        """What is known of the company; None: it is not in the file."""
        account = self._accounts.get(company)
        return None if account is None else account.record(self._has_creds(account))

    def _has_creds(self, account: Account) -> bool:
        if account.has_creds is None:
            found = self._read(lambda c: c.execute(_VALUE, (account.number, *CREDS)).fetchall())
            account.has_creds = bool(found)
        return account.has_creds

    def quarantined(self) -> list[Quarantined]:
        """What lies in quarantine, oldest first."""
        return self._read(quarantine.entries)

    def quarantined_change(self, entry: int) -> Change:
        """What a quarantined journal does. `UsageError` where there is none of that id."""
        try:
            return self._read(lambda connection: quarantine.change(connection, self._cipher, entry))
        except KeyError:
            raise UsageError(f"there is no quarantine {entry}") from None

    def wishes(self) -> list[Wish]:
        """The wishes that were put, by company."""
        return [self._wishes[company] for company in sorted(self._wishes)]

    def size_bytes(self) -> int:
        """What the file and its log take on the disk."""
        return self._file.size_bytes()

    @property
    def _reading(self) -> sqlite3.Connection:
        """The connection that commits has the warmest cache; it is another thread's while that commits."""
        if self._commits is None:
            raise AuthStateCorrupt(
                "the replica is damaged and being rebuilt", next_step="Try again in a moment."
            )
        return self._file.connection if self._commits.is_idle else self._file.reader

    def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return read(self._reading)
        except UNREADABLE as error:
            self._unreadable(error)

    def _account(self, number: int) -> Account:
        account = self._numbers.get(number)
        if account is None:
            raise ValueError(f"no company has the number {number} in the vault's file")
        return account

    def _readable(self, number: int) -> Account:
        account = self._account(number)
        if not account.complete:
            raise AuthStateCorrupt(
                f"the replica of {account.company} is not complete",
                next_step="It is filled from PostgreSQL when the company is opened with PostgreSQL up.",
            )
        return account

    def _unreadable(self, error: Exception, account: Account | None = None) -> NoReturn:
        self._found(error)
        whose = f" of {account.company}" if account else ""
        raise AuthStateCorrupt(
            f"the replica{whose} cannot be read: {describe(error)}",
            next_step="The file is moved aside and rebuilt from PostgreSQL by itself; see the alert.",
        ) from error

    def _found(self, error: Exception) -> None:
        """Something of the file could not be read."""
        raise NotImplementedError
