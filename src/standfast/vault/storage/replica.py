"""`Replica`: the vault's file as the vault uses it: creds and keys of every company held here, and their journal.

A write is acknowledged once it is durable, and read from that moment on. Invariant: what is read is what was
acknowledged last; what cannot be read raises `AuthStateCorrupt` and is never an absence.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from standfast.errors import JournalUnwritable
from standfast.vault.storage import companies, salvage, schema, wishes
from standfast.vault.storage.account import Account, Batch, Record
from standfast.vault.storage.commits import Commits
from standfast.vault.storage.damage import UNREADABLE, Damage, LogTorn, describe, is_damage
from standfast.vault.storage.files import VaultFile
from standfast.vault.storage.quarantine import Quarantined
from standfast.vault.storage.settling import Settling
from standfast.vault.storage.slots import Slots
from standfast.vault.storage.wishes import Wish
from standfast.vault.storage.writing import Writing

__all__ = ["Batch", "Damage", "Quarantined", "Record", "Replica", "Wish"]
log = structlog.get_logger(__name__)
_CLOSE_TIMEOUT_S = 5.0
_REBUILD_RETRY_S = 5.0


class Replica(Writing):
    """`on_damage` is told, on the loop, once a damaged file was moved aside and a new one took its place: what could
    be read was carried over, and the companies that it names are no longer complete."""

    node: str

    def __init__(
        self, file: VaultFile, on_damage: Callable[[Damage], None] | None, wall: Callable[[], float]
    ) -> None:
        super().__init__(file, wall)
        self._on_damage = on_damage
        self._rebuilding: asyncio.Task[Damage] | None = None
        self.node = ""
        self.database = None

    @classmethod
    def open(
        cls,
        directory: Path,
        key: bytes | None = None,
        *,
        on_damage: Callable[[Damage], None] | None = None,
        wall: Callable[[], float] = time.time,
        boot_id: str = "",
    ) -> Self:
        """The file in `directory`, made where there is none. Without `key`, one is kept beside it. `boot_id` names this
        run of the machine: within one, a log loses nothing by itself. Raises `JournalUnwritable` where the directory or
        disk does not let it be opened."""
        replica = cls(VaultFile(directory, key, boot_id), on_damage, wall)
        try:
            replica._open()
        except UNREADABLE as error:
            if not is_damage(error, at_opening=True):
                replica._file.close()
                raise JournalUnwritable(f"the vault's file cannot be opened: {describe(error)}") from error
            torn = error if isinstance(error, LogTorn) else None
            damage = salvage.replace_file(replica._file, describe(error), (), torn=torn)
            replica._open()
            replica._tell(damage)
        return replica

    def _open(self) -> None:
        file = self._file
        file.open()
        self._load()
        try:
            file.begin_log(self.node)
        except (OSError, sqlite3.Error) as error:
            if is_damage(error):
                raise
            # What is there can still be read; whether it can be written is tried again every second.
            self._refused = JournalUnwritable(f"the vault's file cannot be written: {describe(error)}")
        self._commits = Commits(
            file.connection, self._settling.errand, self._refuse, self._wrote, file.check_in_place
        )
        for account in self._accounts.values():
            self._settling.touch(account)

    def _load(self) -> None:
        connection = self._file.connection
        # What is known outlives the file: under another name this node would be fenced off by its own leases.
        known = self.node or self._file.former_node() or str(uuid.uuid4())
        self.node = self._noted(connection, "node", known)
        self.database = self._noted(connection, "database", self.database or "") or None
        loaded = companies.load(connection, self._cipher)
        self._slots = Slots(loaded.highest)
        self._slots.give(loaded.useless)
        self._settling = Settling(self._cipher, self._slots)
        self._accounts = {account.company: account for account in loaded.accounts}
        self._numbers = {account.number: account for account in self._accounts.values()}
        self._wishes = wishes.load(connection)

    def _noted(self, connection: sqlite3.Connection, name: str, known: str) -> str:
        found = self._file.note(connection, name)
        if found is None and known:
            self._file.put_note(connection, name, known)
        return found or known

    def _found(self, error: Exception) -> None:
        if self._rebuilding is None and is_damage(error):
            self._rebuilding = asyncio.get_running_loop().create_task(self._rebuild(describe(error)))

    async def _rebuild(self, what: str) -> Damage:
        commits, self._commits = self._commits, None
        if commits is not None:
            await commits.close()
        while True:
            try:
                damage = await asyncio.to_thread(
                    salvage.replace_file, self._file, what, tuple(self._accounts.values())
                )
                self._open()
            except (JournalUnwritable, *UNREADABLE) as error:
                log.warning("a damaged file could not be replaced yet", reason=describe(error))
                await asyncio.sleep(_REBUILD_RETRY_S)
            else:
                break
        self._rebuilding = None
        self.tap.rebuilt()
        self._tell(damage)
        return damage

    async def rebuilt(self) -> None:
        """Returns once nothing is being rebuilt; at once, as a rule."""
        while self._rebuilding is not None:
            await asyncio.wait({self._rebuilding})

    def _tell(self, damage: Damage) -> None:
        if self._on_damage is not None:
            self._on_damage(damage)

    async def copy_aside(self) -> Path:
        """Keep a copy of the whole file, as it is now, beside it; where it lies."""
        self._writing()
        return await asyncio.to_thread(self._file.copy_aside)

    async def verify(self) -> None:
        """Read the whole file, in a thread: its structure, every value, every batch. What is damaged is told to
        `on_damage` after it was rebuilt; this returns when that is done. Slow: for once a day."""
        try:
            with contextlib.closing(schema.connect(self._file.path)) as connection:
                await asyncio.to_thread(companies.check_structure, connection)
                for account in tuple(self._accounts.values()):
                    await self._verify(connection, account)
        except UNREADABLE as error:
            self._found(error)
        if self._rebuilding is not None:
            await asyncio.shield(self._rebuilding)

    async def _verify(self, connection: sqlite3.Connection, account: Account) -> None:
        if self._commits is not None:
            await self._commits.idle()
        if self._commits is None or not account.complete or self._numbers.get(account.number) is not account:
            return
        # What the file holds now and what is known of it now belong together; neither may run ahead.
        connection.execute("begin")
        try:
            connection.execute("select 1 from journal limit 1").fetchone()
            journaled = list(account.rows.behind(account.applied))
            await asyncio.to_thread(companies.verify, connection, self._cipher, account, journaled)
        finally:
            connection.rollback()

    async def close(self) -> None:
        """Make what is under way durable, settle what is fresh within some seconds, and close."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if self._rebuilding is not None:
            self._rebuilding.cancel()
            await asyncio.gather(self._rebuilding, return_exceptions=True)
        commits, self._commits = self._commits, None
        if commits is not None:
            end = time.monotonic() + _CLOSE_TIMEOUT_S
            self._settling.tick(everything=True)
            while self._settling.is_due and self._refused is None and time.monotonic() < end:
                commits.nudge()
                await commits.close()
            await commits.close()
        await asyncio.to_thread(self._file.end, self.node)
