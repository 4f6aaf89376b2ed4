"""`Account`: what is known in memory of one company in the vault's file, and `Record`, what others are told of it.

Invariant: `applied <= sequence`, `settled <= sequence`; whatever the journal has after `settled` is in `fresh`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.vault.storage.cipher import Cipher, Unreadable
from standfast.vault.storage.rows import Entry, Rows
from standfast.vault.storage.schema import CREDS

Place = tuple[str, str]
_ENTRY_BYTES = 200  # what an entry costs in memory beside its value, about


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What the file says of a company. `settled`: the tables of the replica hold all batches up to it."""

    epoch: int
    sequence: int
    applied: int
    settled: int
    complete: bool
    held: bool
    confirmed: str | None
    released_at: float | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


@dataclass(frozen=True, slots=True)
class Record:
    """A company in the vault's file. `sequence` is the last batch that was journaled, `applied` the last one that
    PostgreSQL has. `complete`: the replica is the company's whole state. `confirmed` is the text of the stamp kept by
    `set_released`. `journal_since` is the wall time of the oldest batch that PostgreSQL lacks, None: it lacks none;
    `journal_batches` and `journal_bytes` count what lies in the file (what was applied goes within a second)."""

    company: Company
    number: int
    epoch: int
    sequence: int
    applied: int
    complete: bool
    held: bool
    confirmed: str | None
    released_at: float | None
    has_creds: bool
    journal_batches: int
    journal_bytes: int
    journal_since: float | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What the sequences `first` to `last` did; `at` is the wall time of the first of them."""

    first: int
    last: int
    change: Change
    at: float


@dataclass(slots=True, eq=False)
class Account:
    """`sequence` is durable; `taken` may be under way. `ended` is where the journal's last row ends, `ending` where the
    last one under way does: rows follow each other without a gap, whatever numbers are skipped.

    `fresh` holds what was journaled and is not in the replica's tables yet, oldest first, each value (None: deleted)
    with the sequence that wrote it; `cleared` is the last one that cleared all keys. `ripe` is the sequence of a moment
    ago, `due` that of the moment before: what was not written again since `due` is to be moved to the tables.
    `noted` is `applied` as the file knows it."""

    company: Company
    number: int
    epoch: int = 0
    sequence: int = 0
    taken: int = 0
    ended: int = 0
    ending: int = 0
    applied: int = 0
    settled: int = 0
    complete: bool = False
    held: bool = False
    confirmed: str | None = None
    released_at: float | None = None
    has_creds: bool | None = None  # None: nobody has looked yet
    noted: int = 0
    rows: Rows = field(default_factory=Rows, repr=False)
    fresh: OrderedDict[Place, tuple[bytes | None, int]] = field(default_factory=OrderedDict, repr=False)
    fresh_bytes: int = 0
    cleared: int = 0
    ripe: int = 0
    due: int = 0

    def sealed(self, cipher: Cipher, settled: int | None = None) -> bytes:
        """Its row's content; with `settled`, as it will be once what is being settled is."""
        kept = Kept(
            self.epoch,
            self.sequence,
            self.applied,
            self.settled if settled is None else settled,
            self.complete,
            self.held,
            self.confirmed,
            self.released_at,
        )
        return cipher.seal(_encode(kept), place_of_company(self.company))

    @classmethod
    def at(cls, company: Company, epoch: int, sequence: int) -> Account:
        """A company with nothing in the journal, of which PostgreSQL has everything up to `sequence`."""
        return cls(company, 0, epoch, sequence, sequence, sequence, sequence, sequence, sequence)

    @classmethod
    def unsealed(cls, cipher: Cipher, number: int, company: Company, state: bytes) -> Account:
        """From its row. Raises `Unreadable`."""
        kept = _decode(cipher.open(state, place_of_company(company)))
        account = cls.at(company, kept.epoch, kept.sequence)
        account.number, account.settled = number, kept.settled
        account.applied = account.noted = kept.applied
        account.complete, account.held = kept.complete, kept.held
        account.confirmed, account.released_at = kept.confirmed, kept.released_at
        return account

    def found(self, first: int, entry: Entry) -> bool:
        """A row of the journal that begins with `first`, in order; whether it is needed. Raises `Unreadable` where one
        before it is missing."""
        needless = min(self.applied, self.settled)
        if entry.last <= max(needless, self.rows.last):
            return False
        if first > (self.rows.last or needless) + 1:
            raise Unreadable(f"the journal lacks the batches before {first}")
        self.rows.add(entry)
        return True

    def check_found(self) -> None:
        """The journal has been looked through. Raises `Unreadable` where it ends too early."""
        needed_to = self.applied if len(self.rows) else min(self.applied, self.settled)
        if self.rows.last < self.sequence > needed_to:
            raise Unreadable("the journal ends before what is known to have been written")
        self.sequence = self.taken = self.ended = self.ending = max(self.sequence, self.rows.last)

    def recede(self) -> None:
        """What was under way failed: its numbers are free again."""
        self.taken, self.ending = self.sequence, self.ended

    def freshen(self, sequence: int, change: Change) -> None:
        """Batch `sequence` is durable: what it says is what is read from now on."""
        if change.cleared:
            creds = self.fresh.pop(CREDS, None)
            self.fresh.clear()
            self.fresh_bytes = 0
            self.cleared = sequence
            if creds is not None:
                self._put(CREDS, *creds)
        for key_type, entries in change.keys.items():
            for key_id, value in entries.items():
                self._put((key_type, key_id), value, sequence)
        if change.creds is not None:
            self._put(CREDS, change.creds, sequence)
            self.has_creds = True

    def fresh_since(self, after: int, limit_bytes: int) -> Change | None:
        """What was written behind `after`, from memory; None: the journal is to be asked, for not all of it is there or
        it exceeds `limit_bytes`."""
        if self.settled > after:
            return None
        change, size = Change(cleared=self.cleared > after), 0
        for (key_type, key_id), (value, sequence) in reversed(self.fresh.items()):
            if sequence <= after:
                break
            size += _weight(value)
            if size > limit_bytes:
                return None
            if (key_type, key_id) == CREDS:
                change.creds = value
            else:
                change.keys.setdefault(key_type, {})[key_id] = value
        return change

    def _put(self, place: Place, value: bytes | None, sequence: int) -> None:
        former = self.fresh.pop(place, None)
        if former is not None:
            self.fresh_bytes -= _weight(former[0])
        self.fresh[place] = (value, sequence)
        self.fresh_bytes += _weight(value)

    def filled(self, sequence: int, ahead: list[Batch]) -> None:
        """The tables are PostgreSQL's state at `sequence`; `ahead` is what the journal has beyond."""
        self.fresh.clear()
        self.fresh_bytes = 0
        self.complete = True
        self.has_creds = None
        self.applied = self.settled = sequence = max(sequence, self.applied)
        self.sequence = max(self.sequence, sequence)
        self.taken = max(self.taken, sequence)
        for batch in ahead:
            self.freshen(batch.last, batch.change)

    def wither(self, place: Place, sequence: int) -> None:
        """The tables hold what `sequence` wrote at `place`."""
        found = self.fresh.get(place)
        if found is not None and found[1] == sequence:
            del self.fresh[place]
            self.fresh_bytes -= _weight(found[0])

    def record(self, has_creds: bool) -> Record:
        behind = self.sequence > self.applied
        return Record(
            company=self.company,
            number=self.number,
            epoch=self.epoch,
            sequence=self.sequence,
            applied=self.applied,
            complete=self.complete,
            held=self.held,
            confirmed=self.confirmed,
            released_at=self.released_at,
            has_creds=has_creds,
            journal_batches=len(self.rows) if behind else 0,
            journal_bytes=self.rows.size if behind else 0,
            journal_since=self.rows.since if behind else None,
        )


def amended(cipher: Cipher, company: Company, state: bytes, fields: dict[str, Any]) -> bytes:
    """The content of a company's row with other values in those fields. Raises `Unreadable`."""
    kept = _decode(cipher.open(state, place_of_company(company)))
    return cipher.seal(_encode(msgspec.structs.replace(kept, **fields)), place_of_company(company))


def place_of_company(company: str) -> str:
    return f"company\0{company}"


def place_of_value(company: str, key_type: str, key_id: str) -> str:
    return f"value\0{company}\0{key_type}\0{key_id}"


def place_of_batch(company: str, first: int, last: int) -> str:
    return f"batch\0{company}\0{first}\0{last}"


def _weight(value: bytes | None) -> int:
    return _ENTRY_BYTES + len(value or b"")
