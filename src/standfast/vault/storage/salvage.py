"""Salvage: what can be read of a damaged file is carried into a new one, and the old one is moved aside.

Invariant: nothing is carried over that does not match its seal; a company stays complete only if all of it was read
from a file whose structure is sound; what is known to be lost is told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from standfast.authstate.company import Company, company_id
from standfast.errors import JournalUnwritable, UsageError
from standfast.vault.storage import companies, journal, schema, wishes
from standfast.vault.storage.account import Account, Batch, place_of_value
from standfast.vault.storage.cipher import Cipher, Unreadable
from standfast.vault.storage.damage import UNREADABLE, Damage, LogTorn
from standfast.vault.storage.files import VaultFile, remove_database
from standfast.vault.storage.mending import mended
from standfast.vault.storage.wishes import Wish

__all__ = ["Damage", "replace_file"]
_CHUNK = 2_000
_NOTES = ("node", "database")
_PUT_VALUE = "insert or ignore into replica (number, type, id, value) values (?, ?, ?, ?)"
_PUT_COMPANY = "insert into companies (number, company, state) values (?, ?, ?)"
_PUT_QUARANTINE = "insert into quarantine (company, epoch, fenced_by, at, reason) values (?, 0, 0, ?, ?)"
_PUT_QUARANTINED = "insert into quarantined (id, first, last, at, size, change) values (?, ?, ?, ?, ?, ?)"
_MAKE_QUARANTINE = (
    "insert or replace into quarantine (id, company, epoch, fenced_by, at, reason) values (?, ?, 0, 0, ?, ?)"
)
_DROP_EMPTY = "delete from quarantine where id not in (select id from quarantined)"
_COPY_QUARANTINE = (
    "insert or ignore into quarantine (id, company, epoch, fenced_by, at, reason) values (?, ?, ?, ?, ?, ?)"
)


@dataclass(slots=True)
class _Found:
    """What was read of one company. `row` is the sealed row itself; `whole`: no value of it was unreadable."""

    account: Account
    is_known: bool = True
    whole: bool = True
    batches: list[tuple[Batch, bytes]] = field(default_factory=list)


def replace_file(
    file: VaultFile, what: str, known: Sequence[Account], *, torn: LogTorn | None = None
) -> Damage:
    """Begin a new file with what the damaged one still gives. `known` are the companies as this process knows them,
    where it had opened the file; `torn`: the end of its log is known not to be there. The file is closed on return.
    Raises `JournalUnwritable` where that cannot be done; the damaged file is in its place then."""
    torn = torn or file.torn()
    try:
        file.stand_in()
        # Opened before the others close: the last one to close would carry the log into the file and remove it.
        old = _read_only(file.path)
        try:
            file.close()
            new = file.make_beside()
            try:
                if not _has_schema(old):
                    old.close()
                    old = _with_schema(file)
                new.execute("begin immediate")
                damage = _Salvage(file, old, new, known).run(what, torn)
                new.execute("commit")
            finally:
                new.close()
            moved_to = file.move_aside()
            file.take_place()
        finally:
            old.close()
            remove_database(file.mended)
    except (OSError, sqlite3.Error) as error:
        raise JournalUnwritable(f"the damaged file of the vault cannot be replaced: {error}") from error
    return replace(damage, moved_to=moved_to)


def _read_only(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda text: text.decode(errors="replace")
    return connection


def _has_schema(connection: sqlite3.Connection) -> bool:
    try:
        schema.check_tables(connection)
    except UNREADABLE:
        return False
    return True


def _with_schema(file: VaultFile) -> sqlite3.Connection:
    """A copy of the damaged file with the first page of a new one: every file of ours begins with the same."""
    for suffix in ("", "-wal"):
        source = file.path.with_name(file.path.name + suffix)
        if source.exists():
            shutil.copyfile(source, file.mended.with_name(file.mended.name + suffix))
    with file.mended.open("r+b") as copy:
        pages = max(1, copy.seek(0, os.SEEK_END) // schema.PAGE_BYTES)
        copy.seek(0)
        copy.write(schema.first_page(pages))
    return _read_only(file.mended)


class _Salvage:
    def __init__(
        self, file: VaultFile, old: sqlite3.Connection, new: sqlite3.Connection, known: Sequence[Account]
    ) -> None:
        self._file = file
        self._cipher: Cipher = file.cipher
        self._old = old
        self._new = new
        self._known = known
        self._sound = True
        self._salvaged = self._lost = 0
        self._gaps: list[tuple[Company, int, int]] = []

    def run(self, what: str, torn: LogTorn | None) -> Damage:
        self._sound = torn is None and self._is_sound()
        self._copy_notes()
        found = self._companies()
        self._read_values(found)
        self._read_journal(found)
        self._copy_wishes()
        names = [each.account.company for each in found.values()] + list(wishes.load(self._new))
        self._copy_quarantine(names)
        incomplete = [each.account.company for each in found.values() if not self._settle(each)]
        # How many batches the torn commits held nobody can tell.
        lost = self._lost + (0 if torn is None else torn.lost)
        gaps = tuple(self._gaps)
        return Damage(what, None, tuple(incomplete), self._salvaged, lost, gaps, torn is not None)

    def _is_sound(self) -> bool:
        try:
            companies.check_structure(self._old)
        except UNREADABLE:
            return False
        return True

    def _copy_notes(self) -> None:
        for name in _NOTES:
            try:
                text = self._file.note(self._old, name)
            except UNREADABLE:
                continue
            if text is not None:
                self._file.put_note(self._new, name, text)

    def _companies(self) -> dict[int, _Found]:
        # Copies: while they change, in a thread and perhaps in vain, others go by what was known.
        found = {account.number: _Found(copy(account)) for account in self._known}
        if self._known:
            return found
        for number, company, state in self._scan("companies", "number, company, state"):
            try:
                found[number] = _Found(Account.unsealed(self._cipher, number, company, state))
            except Unreadable:
                found[number] = _Found(Account(company, number), is_known=False, whole=False)
        return found

    def _read_values(self, found: dict[int, _Found]) -> None:
        rows = []
        for number, key_type, key_id, value in self._scan("replica", "number, type, id, value"):
            each = found.get(number)
            if each is None or not each.whole:
                continue
            try:
                self._cipher.open(value, place_of_value(each.account.company, key_type, key_id))
            except Unreadable:
                each.whole = False
                continue
            rows.append((number, key_type, key_id, value))
            if len(rows) >= _CHUNK:
                self._new.executemany(_PUT_VALUE, rows)
                rows.clear()
        self._new.executemany(_PUT_VALUE, rows)

    def _read_journal(self, found: dict[int, _Found]) -> None:
        for number, first, last, at, sealed in self._scan("journal", "number, first, last, at, change"):
            each = found.get(number)
            if each is None:
                continue
            try:
                change = journal.unsealed(self._cipher, each.account.company, first, last, sealed)
            except Unreadable:
                continue
            each.batches.append((Batch(first, last, change, _number(at)), sealed))

    def _copy_quarantine(self, names: list[Company]) -> None:
        """An entry bears no seal, a batch does: whose it is, is tried."""
        owners: dict[int, Company] = {}
        for row in self._scan("quarantine", "id, company, epoch, fenced_by, at, reason"):
            if self._new.execute(_COPY_QUARANTINE, row).rowcount > 0:
                owners[row[0]] = row[1]
        for entry, first, last, at, size, change in self._scan(
            "quarantined", "id, first, last, at, size, change"
        ):
            known = [owners[entry]] if entry in owners else []
            owner = self._owner([*known, *names, *owners.values()], first, last, change)
            if owner is None:
                self._lost += 1
                continue
            if owners.get(entry) != owner:
                owners[entry] = owner
                reason = "the entry in the quarantine was damaged"
                self._new.execute(_MAKE_QUARANTINE, (entry, owner, _number(at), reason))
            self._new.execute(_PUT_QUARANTINED, (entry, first, last, _number(at), _number(size), change))
        self._new.execute(_DROP_EMPTY)

    def _owner(self, names: list[Company], first: int, last: int, change: bytes) -> Company | None:
        for name in names:
            with contextlib.suppress(*UNREADABLE):
                journal.unsealed(self._cipher, name, first, last, change)
                return name
        return None

    def _copy_wishes(self) -> None:
        for company, *flags in self._scan("wishes", "company, wanted, unlinked, dirty"):
            try:
                wish = Wish(company_id(company), *(bool(flag) for flag in flags))
            except UsageError:
                continue
            wishes.put(self._new, wish)

    def _scan(self, table: str, columns: str) -> Iterator[Any]:
        """Rows from the front as far as they can be read, then from the back as far as they can be read."""
        reached: Any = None
        try:
            for row in self._old.execute(f"select {_position(table)}, {columns} from {table} order by 1"):
                reached = row[0]
                yield row[1:]
            return
        except UNREADABLE:
            self._sound = False
        try:
            for row in self._old.execute(
                f"select {_position(table)}, {columns} from {table} order by 1 desc"
            ):
                if reached is not None and row[0] <= reached:
                    return
                yield row[1:]
        except UNREADABLE:
            return

    def _settle(self, found: _Found) -> bool:
        """Write one company into the new file; whether it is complete there."""
        account = found.account
        found.batches.sort(key=lambda pair: pair[0].first)
        if not found.is_known:
            self._set_aside(found)
            return False
        if self._known:
            # Beyond it lies only what was refused to its writer.
            found.batches = [pair for pair in found.batches if pair[0].last <= account.sequence]
        elif found.batches:
            account.sequence = max(account.sequence, found.batches[-1][0].last)
        whole = account.complete and found.whole and self._sound
        settled = partial(companies.everything, self._new, self._cipher, account)
        kept = mended(account, [batch for batch, _ in found.batches], settled if whole else None)
        self._lost += sum(last - first + 1 for first, last in kept.lost)
        self._gaps += [(account.company, first, last) for first, last in kept.lost]
        self._salvaged += len(kept.batches)
        account.complete = whole and kept.whole
        if not account.complete:
            account.settled = account.applied
            companies.empty(self._new, account.number)
        state = account.sealed(self._cipher)
        self._new.execute(_PUT_COMPANY, (account.number, account.company, state))
        for batch in kept.batches:
            journal.put(self._new, self._cipher, account, batch)
        return account.complete

    def _set_aside(self, found: _Found) -> None:
        """Under which epoch it was written is not known: the journal must not reach PostgreSQL by itself."""
        companies.empty(self._new, found.account.number)
        if found.batches:
            company, at = found.account.company, found.batches[0][0].at
            reason = "the company's row in the vault's file was damaged"
            entry = self._new.execute(_PUT_QUARANTINE, (company, at, reason)).lastrowid
            rows = [(entry, b.first, b.last, b.at, len(sealed), sealed) for b, sealed in found.batches]
            self._new.executemany(_PUT_QUARANTINED, rows)
            self._salvaged += len(rows)


def _position(table: str) -> str:
    return "company" if table == "wishes" else "rowid"


def _number(found: object) -> float:
    """Times and sizes bear no seal."""
    return found if isinstance(found, int | float) else 0
