"""`Writing`: everything that changes the vault's file.

Invariant: a change is acknowledged only once it is durable, and is read from that moment on; a refused one changed
nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import JournalUnwritable, StandfastError, UsageError
from standfast.vault.storage import companies, journal, quarantine, wishes
from standfast.vault.storage.account import Account, Batch
from standfast.vault.storage.commits import APPEND, Commits, Row, Step
from standfast.vault.storage.companies import FilledRow
from standfast.vault.storage.damage import describe, is_damage
from standfast.vault.storage.files import VaultFile
from standfast.vault.storage.reading import Reading
from standfast.vault.storage.rows import Entry
from standfast.vault.storage.settling import Settling
from standfast.vault.storage.slots import Slots
from standfast.vault.storage.tap import Recent, Tap, Taps
from standfast.vault.storage.wishes import Wish

TICK_S = 1.0
FREE_BYTES = 16 * 2**20  # with less left on the disk nothing new is begun


class Writing(Reading):
    """The part of `Replica` that changes what is kept. `tap` tells every change to who listens."""

    database: str | None
    _settling: Settling
    _slots: Slots

    def __init__(self, file: VaultFile, wall: Callable[[], float]) -> None:
        super().__init__(file)
        self.tap = Taps()
        self._wall = wall
        self._refused: JournalUnwritable | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._free_checked_at = 0.0

    def listen(self, tap: Tap) -> None:
        """Tell `tap` of what happens from now on, until `unlisten`."""
        self.tap.add(tap)

    def unlisten(self, tap: Tap) -> None:
        self.tap.remove(tap)

    def append(self, number: int, sequence: int, change: Change) -> Awaitable[None]:
        """Journal `change` as batch `sequence` (above every earlier one; numbers may be skipped). Durable, and read
        from then on, when it resolves; then it stands wholly, else not at all. Raises `JournalUnwritable`."""
        account = self._account(number)
        if sequence <= account.taken:
            raise ValueError(f"batch {sequence} of {account.company} comes after {account.taken}")
        if "" in change.keys:
            raise UsageError("a key's type is empty", next_step="Name the type of each key.")
        at = self._wall()
        commits = self._writing()
        position = self._slots.take()
        row = journal.row(self._cipher, position, account, sequence, change, at)
        account.taken = account.ending = sequence
        done = partial(self._appended, account, change, Entry(position, sequence, row[5], at))
        if change.cleared:
            return commits.run(partial(_append_clearing, row), done)
        return commits.append(row, done)

    def _appended(self, account: Account, change: Change, entry: Entry) -> None:
        account.sequence = max(account.sequence, entry.last)
        account.ended = entry.last
        account.rows.add(entry)
        account.freshen(entry.last, change)
        self._settling.touch(account)

    def recent(self, after: Mapping[Company, int]) -> list[Recent]:
        """Of each of these companies what was written behind the sequence named, where anything was."""
        found = []
        active = self._settling.active()
        if len(after) < len(active):
            active = [self._accounts[company] for company in after if company in self._accounts]
        for account in active:
            since = after.get(account.company)
            if since is not None and account.sequence > since:
                change = account.fresh_since(since, sys.maxsize)
                found.append(Recent(account.company, account.epoch, since + 1, account.sequence, change))
        return found

    def applied(self, number: int, sequence: int) -> None:
        """PostgreSQL has everything up to `sequence`: the journal need not keep it. On the disk within two seconds."""
        account = self._account(number)
        if sequence > account.applied:
            account.applied = sequence
            account.sequence = max(account.sequence, sequence)
            account.taken = max(account.taken, sequence)
            self._settling.touch(account)
            self._keep_ticking()

    async def enrol(self, company: Company, epoch: int, sequence: int, *, held: bool = True) -> int:
        """Make room for a company that PostgreSQL has at `sequence`; its number. It is complete once filled."""
        if company in self._accounts:
            raise ValueError(f"{company} is in the vault's file already")
        account = Account.at(company, epoch, sequence)
        account.held = held

        def step(connection: sqlite3.Connection) -> None:
            account.number = companies.insert(connection, self._cipher, account)

        def done() -> None:
            self._accounts[company] = self._numbers[account.number] = account

        await self._run(step, done)
        return account.number

    async def begin_fill(self, number: int) -> None:
        """Drop the company's values, to fill it anew; its journal stays."""
        account = self._account(number)

        def step(connection: sqlite3.Connection) -> None:
            companies.empty(connection, number)
            companies.amend(connection, self._cipher, account, complete=False)

        def done() -> None:
            account.complete, account.has_creds = False, None

        account.complete = False
        await self._run(step, done, heavy=True)

    async def fill(self, number: int, rows: Sequence[FilledRow]) -> None:
        """Put rows as `Replication.stream` gives them: (type, id, raw JSON), without type and id the creds."""
        account = self._account(number)
        await self._run(lambda c: companies.put_rows(c, self._cipher, account, rows), heavy=True)

    async def finish_fill(self, number: int, sequence: int) -> None:
        """What was filled is PostgreSQL's state at `sequence`; what the journal has beyond counts on top of it."""
        account = self._account(number)
        ahead: list[Batch] = []

        def step(connection: sqlite3.Connection) -> None:
            ahead.extend(companies.finish_fill(connection, self._cipher, account, sequence))

        def done() -> None:
            account.filled(sequence, ahead)
            self._settling.touch(account)
            self.tap.replaced(account.company)

        await self._run(step, done, heavy=True)

    async def set_epoch(self, number: int, epoch: int, held: bool) -> None:
        """The company is written under `epoch` from now on; `held`: under this node's lease."""
        company = self._account(number).company
        await self._amend(number, epoch=epoch, held=held)
        self.tap.claimed(company, epoch)

    async def set_released(self, number: int, stamp: str) -> None:
        """The lease was given back when `stamp` says."""
        await self._amend(number, held=False, confirmed=stamp, released_at=self._wall())

    async def _amend(self, number: int, **fields: Any) -> None:
        account = self._account(number)

        def done() -> None:
            for name, value in fields.items():
                setattr(account, name, value)

        await self._run(lambda c: companies.amend(c, self._cipher, account, **fields), done)

    async def compact(self, number: int) -> None:
        """Make few batches of many, each what they do together. Not while a delivery of them is under way."""
        account = self._account(number)
        merged: Batch | None = None
        position = after = size = 0

        def step(connection: sqlite3.Connection) -> None:
            nonlocal merged, after, size
            after = account.applied
            merged = journal.compacted(connection, self._cipher, account)
            if merged is not None:
                size = journal.put(connection, self._cipher, account, merged, position)

        def done() -> None:
            if merged is not None:
                # What it was made of is deleted later: a reader may be about to read it.
                replaced = account.rows.merge(Entry(position, merged.last, size, merged.at), after)
                self._slots.give(replaced)

        while merged is None or merged.last < account.rows.last:
            position = self._slots.take()
            await self._run(step, done, heavy=True)
            if merged is None:
                break

    async def forget(self, number: int) -> None:
        """Drop all of the company. `ValueError` while its journal holds what PostgreSQL lacks."""
        account = self._account(number)
        if account.taken > account.applied:
            raise ValueError(f"PostgreSQL lacks batches of {account.company}: it stays in the vault's file")
        await self._run(lambda c: companies.delete(c, account), partial(self._left, account), heavy=True)

    async def quarantine(self, number: int, reason: str, fenced_by: int) -> int | None:
        """Move what PostgreSQL lacks of the journal to quarantine, and drop all else of the company; the id there, or
        None where PostgreSQL has everything."""
        account, at = self._account(number), self._wall()

        def step(connection: sqlite3.Connection) -> int | None:
            entry = quarantine.enter(connection, account, reason, fenced_by, at)
            companies.delete(connection, account)
            return entry

        kept: int | None = await self._run(step, partial(self._left, account), heavy=True)
        return kept

    def _left(self, account: Account) -> None:
        self._settling.leave(account)
        self._accounts.pop(account.company, None)
        self._numbers.pop(account.number, None)
        self.tap.left(account.company)

    async def discard(self, entry: int) -> None:
        """Delete a quarantined journal for good. `UsageError` where there is none of that id."""
        if not await self._run(lambda c: quarantine.discard(c, entry)):
            raise UsageError(f"there is no quarantine {entry}")

    async def bind(self, database: str) -> None:
        """The identity of the database that this file's companies are in."""
        await self._run(
            lambda c: self._file.put_note(c, "database", database),
            lambda: setattr(self, "database", database),
        )

    async def put_wish(self, wish: Wish) -> None:
        await self._run(lambda c: wishes.put(c, wish), lambda: self._wishes.update({wish.company: wish}))

    async def drop_wish(self, company: Company) -> None:
        def done() -> None:
            self._wishes.pop(company, None)

        await self._run(lambda c: wishes.drop(c, company), done)

    def check_writable(self) -> None:
        """Raises `JournalUnwritable` where a write could not be made durable just now."""
        self._writing()
        if self._refused is not None:
            raise JournalUnwritable(self._refused.message)
        now = time.monotonic()
        if now - self._free_checked_at >= TICK_S:
            free = self._file.free_bytes()
            if free < FREE_BYTES:
                raise JournalUnwritable(f"{free // 2**20} MiB are left on the disk of {self._file.directory}")
            self._free_checked_at = now

    def _writing(self) -> Commits:
        if self._commits is None:
            raise JournalUnwritable(
                "the vault's file is damaged and being rebuilt", next_step="Try again in a moment."
            )
        self._keep_ticking()
        return self._commits

    async def _run(self, step: Step, done: Callable[[], None] | None = None, *, heavy: bool = False) -> Any:
        return await self._writing().run(step, done, heavy=heavy)

    def _refuse(self, error: Exception) -> StandfastError:
        """A commit failed: nothing of it stands, and numbers that were taken for it are free again."""
        for account in self._accounts.values():
            account.recede()
        if is_damage(error):
            self._found(error)
        self._refused = JournalUnwritable(f"a write to the vault's file failed: {describe(error)}")
        return JournalUnwritable(self._refused.message)

    def _wrote(self, size: int) -> bool:
        self._refused = None
        return self._file.wrote(size)

    def _keep_ticking(self) -> None:
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        if self._commits is None:
            return
        self.tap.settling()
        self._settling.tick()
        if self._refused is not None:
            self._probe()
        if self._settling.is_due:
            self._commits.nudge()
        if self._settling.is_active or self._refused is not None:
            self._keep_ticking()

    def _probe(self) -> None:
        """Writes fail: see whether they still do, though nobody asks."""
        assert self._commits is not None
        self._commits.run(lambda c: self._file.put_note(c, "probe", str(self._wall())))


def _append_clearing(row: Row, connection: sqlite3.Connection) -> None:
    connection.execute(APPEND, row)
    companies.clear_keys(connection, row[1])
