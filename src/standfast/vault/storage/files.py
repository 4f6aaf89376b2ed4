"""`VaultFile`: the one SQLite file of the vault, its connections and its checkpoints.

Invariant: the file, its log and its index have mode 0600 in a directory of mode 0700, and a file that was begun anew
takes the name only once it is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from standfast.errors import JournalUnwritable
from standfast.vault.storage import mark, schema
from standfast.vault.storage.cipher import Cipher, Unreadable, own_key, sync_directory
from standfast.vault.storage.damage import UNREADABLE, LogTorn, check_log, least_bytes
from standfast.vault.storage.mark import Mark

CHECKPOINT_BYTES = 4 * 2**20
LOG_BYTES = 4 * CHECKPOINT_BYTES
CHECK_S = 0.5  # what was written within is in memory still, and can be written again
_SENTINEL = "standfast"
_SUFFIXES = ("", "-wal", "-shm")
_NOTE = "select note from notes where name = ?"
_PUT_NOTE = (
    "insert into notes (name, note) values (?, ?) on conflict (name) do update set note = excluded.note"
)


class VaultFile:
    """`directory` is made where it is missing. Nothing is opened yet. `boot_id` names this run of the machine."""

    def __init__(self, directory: Path, key: bytes | None = None, boot_id: str = "") -> None:
        self.directory = directory
        self._boot_id = boot_id
        self.path = directory / "vault.db"
        self.beside = directory / "vault.new"
        self.mended = directory / "vault.mended"
        self.mark = directory / "vault.mark"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            self.cipher = Cipher(own_key(directory / "vault.key") if key is None else key)
        except OSError as error:
            raise JournalUnwritable(f"{directory} cannot be used: {error.strerror}") from error
        self._connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._checkpoint: Future[None] | None = None
        self._log_bytes = 0
        self._marked: Mark | None = None
        self._inode: int | None = None
        self._checked_at = 0.0
        self._log_path = f"{self.path}-wal"

    @property
    def connection(self) -> sqlite3.Connection:
        """The one that writes."""
        assert self._connection is not None, "the vault's file is not open"
        return self._connection

    @property
    def reader(self) -> sqlite3.Connection:
        """One for reading while a thread uses the other."""
        if self._reader is None:
            self._reader = schema.connect(self.path)
        return self._reader

    def open(self) -> None:
        """Open the file, made where there is none. Raises what `damage.UNREADABLE` names where it is not one of ours,
        wholly, under this key."""
        is_gone = not self._size("") and not self.beside.exists() and bool(self._size("-wal"))
        if is_gone:
            self.stand_in()
        elif not self.path.exists():
            if not self.beside.exists():
                self.make_beside().close()
            self.take_place()
        elif self.beside.exists():
            remove_database(self.beside)  # begun and not finished
        if is_gone:
            raise LogTorn("the vault's file is gone, its write-ahead log is there")
        self._check_length()
        self._connection = schema.connect(self.path)
        # First of all: behind a torn log even the tables may be those of an earlier time.
        former = mark.read(self.mark)
        same_boot = former is not None and bool(former.opened) and former.boot_id == self._boot_id != ""
        check_log(self._connection, self.path, same_boot=same_boot)
        schema.check_tables(self._connection)
        if self.note(self._connection, "sentinel") != _SENTINEL:
            raise Unreadable("the vault's file has no sentinel")
        self._check_age()

    def torn(self) -> LogTorn | None:
        """Why what can be read of a damaged file is, or may be, older than what was written last; None: it is not."""
        try:
            if self._marked is not None:  # else its length was looked at before SQLite touched it
                self._check_length()
            self._check_age()
        except LogTorn as torn:
            return torn
        except UNREADABLE:
            return LogTorn("whether the write-ahead log is whole cannot be told")
        return None

    def _check_length(self) -> None:
        expected, log_bytes = mark.read(self.mark), self._size("-wal")
        # Without any log another program may have opened the file, which carries the log into it.
        if expected is not None and log_bytes is not None and log_bytes < expected.log_bytes:
            raise LogTorn(f"the write-ahead log was cut short, to {log_bytes} bytes")

    def _check_age(self) -> None:
        expected = mark.read(self.mark)
        if expected is None or not expected.opened:
            return
        if self._connection is None or expected.opened not in self._openings():
            raise LogTorn("the write-ahead log is gone, or the file is an older copy")

    def stand_in(self) -> None:
        """Put one empty page where the file is gone or empty: SQLite would remove the log of such a file, and what it
        holds."""
        if not self._size(""):
            self._make(self.path, schema.first_page(1))

    def check_in_place(self) -> None:
        """Raises `LogTorn` where the file or its log was removed, replaced or cut short since it was opened: what was
        written then would not be found again. To be called before each commit; looks twice a second. (Linux writes down
        a new time at the first write after each look at a file, which makes that commit a third slower.)"""
        now = time.monotonic()
        if now - self._checked_at < CHECK_S:
            return
        self._checked_at = now
        try:
            log_bytes, inode = os.stat(self._log_path).st_size, os.stat(self.path).st_ino  # noqa: PTH116 - for speed
        except FileNotFoundError:
            raise LogTorn("the vault's file or its write-ahead log was removed while it was in use") from None
        if self._inode not in (None, inode):
            raise LogTorn("the vault's file was replaced while it was in use")
        if self._marked is not None and log_bytes < self._marked.log_bytes:
            self._check_cut(log_bytes)

    def _check_cut(self, log_bytes: int) -> None:
        """Another program may have carried the log into the file and emptied it; that does no harm."""
        torn = LogTorn("the write-ahead log was cut short while it was in use")
        try:
            _, frames, _ = self.connection.execute("pragma wal_checkpoint(passive)").fetchone()
        except sqlite3.Error as error:
            raise torn from error
        if log_bytes < least_bytes(frames):
            raise torn
        if frames >= 0:  # else another checkpoint is under way: the next commit looks again
            self._grow_log()

    def _openings(self) -> list[str]:
        """The last opening, and the one before for as long as the mark may name it."""
        return (self.note(self.connection, "opened") or "").split()

    def former_node(self) -> str | None:
        """Whose file this is, where that can be known without it."""
        found = mark.read(self.mark)
        return None if found is None else found.node

    def begin_log(self, node: str) -> None:
        """To be called once the file was opened, and its log read."""
        former, opened = mark.read(self.mark), str(uuid.uuid4())
        known = former.opened if former is not None else ""
        self.put_note(self.connection, "opened", f"{opened} {known}")
        self._grow_log()
        self._mark_log(Mark(node, opened, LOG_BYTES, self._boot_id))
        self._inode = self.path.stat().st_ino

    def _mark_log(self, marked: Mark) -> None:
        mark.put(self.mark, marked)
        self._marked = marked

    def make_beside(self) -> sqlite3.Connection:
        """A new file with empty tables, which does not have the name yet."""
        remove_database(self.beside)
        self._make(self.beside)
        connection = schema.connect(self.beside)
        schema.create_tables(connection)
        self.put_note(connection, "sentinel", _SENTINEL)
        return connection

    @staticmethod
    def _make(path: Path, content: bytes = b"") -> None:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)

    def take_place(self) -> None:
        """What was made beside, and closed, is the vault's file from now on."""
        self.beside.replace(self.path)
        sync_directory(self.directory)

    def move_aside(self) -> Path:
        """Put the file, its log and index away; where they lie now."""
        target = self._aside("damaged")
        # What is left behind by a process that ends in between must not pass for whole.
        former = mark.read(self.mark)
        node = former.node if former is not None else ""
        mark.put(self.mark, Mark(node, "damaged"))
        # The log first: it would be taken for that of the file which takes the place.
        for suffix in reversed(_SUFFIXES):
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.replace(target / file.name)
        sync_directory(target)
        mark.put(self.mark, Mark(node))
        return target

    def copy_aside(self) -> Path:
        """A copy of the file and what its log holds; where it lies. Its values are sealed under the same key."""
        target = self._aside("former")
        connection = schema.connect(self.path)
        try:
            connection.execute("vacuum into ?", (str(target / self.path.name),))
        finally:
            connection.close()
        (target / self.path.name).chmod(0o600)
        sync_directory(target)
        return target

    def _aside(self, kind: str) -> Path:
        """A new directory for what is put away."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        target = self.directory / f"{kind}-{stamp}"
        number = 1
        while target.exists():
            number += 1
            target = self.directory / f"{kind}-{stamp}-{number}"
        target.mkdir(mode=0o700)
        return target

    def note(self, connection: sqlite3.Connection, name: str) -> str | None:
        """A note of the file. Raises `Unreadable`."""
        found = connection.execute(_NOTE, (name,)).fetchone()
        return None if found is None else self.cipher.open(found[0], f"note\0{name}").decode()

    def put_note(self, connection: sqlite3.Connection, name: str, text: str) -> None:
        connection.execute(_PUT_NOTE, (name, self.cipher.seal(text.encode(), f"note\0{name}")))

    def size_bytes(self) -> int:
        """Of the file and its log."""
        return (self._size("") or 0) + (self._size("-wal") or 0)

    def free_bytes(self) -> int:
        """What the file system has left for us."""
        try:
            return shutil.disk_usage(self.directory).free
        except OSError as error:
            raise JournalUnwritable(f"{self.directory} cannot be looked at: {error.strerror}") from error

    def wrote(self, size: int) -> bool:
        """A commit of about `size` bytes was made. Carries the log into the file, in a thread, once it has grown;
        True where that is done but for what was written meanwhile: then the writer is to carry the rest, so that the
        log begins anew."""
        self._log_bytes += size
        if self._checkpoint is not None:
            if not self._checkpoint.done():
                return False
            self._checkpoint = None
            return True
        if self._log_bytes >= CHECKPOINT_BYTES:
            self._log_bytes = 0
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "vault-checkpoint")
            self._checkpoint = self._thread.submit(self._carry)
        return False

    def _carry(self) -> None:
        marked, log_bytes = self._marked, self._size("-wal")
        if marked is not None and log_bytes is not None and log_bytes > marked.log_bytes:
            # A reader kept the log from being begun anew: it is longer now, and never becomes shorter.
            with contextlib.suppress(OSError):
                self._mark_log(replace(marked, log_bytes=log_bytes))
        _checkpoint(self.path)

    def _grow_log(self) -> None:
        """Give the log its size at once: a commit that only overwrites costs half of one that lets the file grow.
        SQLite reads no further than the frames that bear its checksums."""
        fd = os.open(self.path.with_name(self.path.name + "-wal"), os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            while size < LOG_BYTES:
                size += os.pwrite(fd, bytes(min(2**20, LOG_BYTES - size)), size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def end(self, node: str) -> None:
        """Close in order what `node` wrote."""
        self._end_thread()
        mark.close(self.mark, node)
        self.close()

    def close(self) -> None:
        """Close what is open. The last one carries the log into the file."""
        self._end_thread()
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()
        self._reader = self._connection = None
        self._inode = None

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None

    def _size(self, suffix: str) -> int | None:
        try:
            return self.path.with_name(self.path.name + suffix).stat().st_size
        except FileNotFoundError:
            return None


def remove_database(path: Path) -> None:
    """Remove a database with its log and index."""
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _checkpoint(path: Path) -> None:
    try:
        connection = schema.connect(path)
        try:
            connection.execute("pragma wal_checkpoint(passive)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return  # the log stays and grows; what is wrong with the file or the disk is told by those who use them
