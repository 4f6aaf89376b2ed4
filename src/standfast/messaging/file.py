"""`MessageFile`: the SQLite file that messages are kept in, its commits and its checkpoints.

Invariant: the file has mode 0600 in a directory of mode 0700; what cannot be read is moved aside, never overwritten.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog

from standfast.errors import JournalUnwritable
from standfast.messaging import schema
from standfast.messaging.seals import Seals
from standfast.vault.storage.cipher import Unreadable
from standfast.vault.storage.commits import Commits

log = structlog.get_logger(__name__)
T = TypeVar("T")
CHECKPOINT_BYTES = 4 * 2**20
# What becomes of a message is told in several notes within a moment; each commit of its own holds up everything else.
PATIENCE_S = 0.01
_SENTINEL = "standfast"
_SUFFIXES = ("-wal", "-shm", "")


class MessageFile:
    """`open()` before anything else. `damaged` is told where an unreadable file was put."""

    def __init__(self, directory: Path, key: bytes, damaged: Callable[[Path, str], None]) -> None:
        self.directory = directory
        self.path = directory / "messages.db"
        self.seals = Seals(key)
        self._damaged = damaged
        self._writer: sqlite3.Connection
        self._reader: sqlite3.Connection
        self._commits: Commits
        self._thread = ThreadPoolExecutor(1, "messages-checkpoint")
        self._log_bytes = 0

    def open(self) -> None:
        """Open the file, made where there is none. Raises `JournalUnwritable` where the disk does not take it."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            try:
                self._writer = self._opened()
            except (schema.SchemaUnknown, Unreadable, sqlite3.DatabaseError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._damaged(self._move_aside(), str(error))
                self._writer = self._opened()
            self._reader = schema.connect(self.path)
        except (OSError, sqlite3.Error) as error:
            raise JournalUnwritable(f"messages cannot be kept in {self.path}: {error}") from error
        self._commits = Commits(self._writer, lambda _idle: None, self._refusal, self._committed)

    async def close(self) -> None:
        """Wait for what is under way, and give the file back."""
        await self._commits.close()
        self._thread.shutdown(wait=True)
        self._reader.close()
        self._writer.close()

    async def write(self, step: Callable[[sqlite3.Connection], T], patience_s: float = 0.0) -> T:
        """What `step` returns, once what it wrote is on the disk. It runs in a transaction, perhaps in a thread; with
        patience it waits so long for others to share one. `JournalUnwritable` where the disk does not take it."""
        result: T = await self._commits.run(step, patience_s=patience_s)
        return result

    def write_later(
        self, step: Callable[[sqlite3.Connection], object], written: Callable[[], None] = lambda: None
    ) -> None:
        """The same, within a moment, for what is true whether or not it is written down; failures are logged. `written`
        is called at the end, also of a failure."""

        def ended(write: asyncio.Future[object]) -> None:
            _log_failure(write)
            written()

        self._commits.run(step, patience_s=PATIENCE_S).add_done_callback(ended)

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of what is committed. `JournalUnwritable` where the file cannot be read."""
        try:
            return self._reader.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _opened(self) -> sqlite3.Connection:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = schema.connect(self.path)
        try:
            schema.prepare(connection)
            row = connection.execute("select note from notes where name = 'sentinel'").fetchone()
            if row is None:
                sealed = self.seals.seal(_SENTINEL, "sentinel")
                connection.execute("insert into notes values ('sentinel', ?)", (sealed,))
            elif self.seals.open(row[0], "sentinel", str) != _SENTINEL:
                raise Unreadable("the messages' file has another sentinel")
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = self.directory / f"damaged-{stamp}-{os.getpid()}"
        target.mkdir(mode=0o700)
        for suffix in _SUFFIXES:
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.replace(target / file.name)
        return target

    def _refusal(self, error: Exception) -> Exception:
        return JournalUnwritable(f"messages cannot be kept in {self.path}: {error}")

    def _committed(self, size: int) -> bool:
        self._log_bytes += size
        if self._log_bytes > CHECKPOINT_BYTES:
            self._log_bytes = 0
            self._thread.submit(_checkpoint, self.path)
        return False


def _log_failure(write: Any) -> None:
    if not write.cancelled() and write.exception() is not None:
        log.error("a note on a message was not written", reason=str(write.exception()))


def _checkpoint(path: Path) -> None:
    try:
        connection = schema.connect(path)
        try:
            connection.execute("pragma wal_checkpoint(passive)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return  # the log stays and grows; what is wrong with the disk is told by those who write
