"""What is said of a vault's file that cannot be read as what it should be, and how a torn log is found.

Invariant: damage is never taken for an absence.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path

from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.vault.storage.cipher import Unreadable
from standfast.vault.storage.schema import PAGE_BYTES, SchemaUnknown

_BROKEN = {11, 24, 26}  # SQLITE_CORRUPT, FORMAT, NOTADB
_SHORT_READ = 522  # SQLITE_IOERR_SHORT_READ: the log ends before what was written to it
_TABLE_MISSING = 1
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_NO_SALT = bytes(8)


class LogTorn(Exception):
    """Commits at the end of the write-ahead log were acknowledged and cannot be read: at least `lost`."""

    def __init__(self, what: str, lost: int = 0) -> None:
        super().__init__(what)
        self.lost = lost


# A flipped bit can make a text undecodable or a column another type.
UNREADABLE = (sqlite3.DatabaseError, Unreadable, SchemaUnknown, LogTorn, UnicodeDecodeError, TypeError)


@dataclass(frozen=True, slots=True)
class Damage:
    """`what` was found; `moved_to` is where the damaged file lies now (None: still in its place, see
    `Replica.verify`); `companies` are those that must be filled anew; `salvaged` batches of the journal were
    carried over, `lost` ones are known to be missing (each company's numbers in `gaps`). `torn`: the end of the log was
    not there, and what it held nobody can tell."""

    what: str
    moved_to: Path | None = None
    companies: tuple[Company, ...] = ()
    salvaged: int = 0
    lost: int = 0
    gaps: tuple[tuple[Company, int, int], ...] = ()
    torn: bool = False


def is_damage(error: Exception, *, at_opening: bool = False) -> bool:
    """Whether the file is broken, as opposed to the disk being full, away or read-only."""
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, UNREADABLE)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.OperationalError)  # Python's own: a text that cannot be decoded
    return code & 0xFF in _BROKEN or code == _SHORT_READ or (at_opening and code & 0xFF == _TABLE_MISSING)


def describe(error: Exception) -> str:
    """What was found, in words without any content of the file."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, Unreadable | SchemaUnknown | LogTorn | StandfastError) or hasattr(
        error, "sqlite_errorcode"
    ):
        return str(error)
    # Python's own messages show what was found.
    return "a column holds what was never put there"


def check_log(connection: sqlite3.Connection, file: Path, *, same_boot: bool) -> None:
    """Raises `LogTorn` where acknowledged commits lie in the write-ahead log behind the point up to which SQLite could
    read it: it stops at the first damaged frame and says nothing. To be asked before anything is written. `same_boot`:
    the machine runs since the log was begun."""
    commits = _torn_commits(connection, file)
    # After a power failure one may be a commit that was cut short: it was never acknowledged. One that a dying process
    # cut short lacks its last frame (or passes for damage, if the process died in the microseconds within that).
    acknowledged = commits if same_boot else commits - 1
    if acknowledged > 0:
        what = f"the write-ahead log is damaged: {commits} commits behind the damage cannot be read"
        raise LogTorn(what, acknowledged)


def _torn_commits(connection: sqlite3.Connection, file: Path) -> int:
    page_bytes = connection.execute("pragma page_size").fetchone()[0]
    # How far it read is in the index beside the log, but closing that file would drop SQLite's locks on it.
    _, readable, _ = connection.execute("pragma wal_checkpoint(passive)").fetchone()
    try:
        fd = os.open(file.with_name(file.name + "-wal"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return _commits_behind(fd, max(0, readable), page_bytes)
    finally:
        os.close(fd)


def _commits_behind(log: int, readable: int, page_bytes: int) -> int:
    """A frame is a header (page, pages in the file if it ends a commit, salt, checksum) and a page. Each round of the
    log has a salt of its own, which tells its frames from older ones that were not overwritten yet."""
    header = os.pread(log, _WAL_HEADER_BYTES, 0)
    salt = header[16:24] if readable or _is_whole(header) else None
    commits, at = 0, _WAL_HEADER_BYTES + readable * (_FRAME_HEADER_BYTES + page_bytes)
    while len(frame := os.pread(log, _FRAME_HEADER_BYTES, at)) == _FRAME_HEADER_BYTES:
        salt = salt or frame[8:16]
        if frame[8:16] != salt or salt == _NO_SALT:
            break
        commits += frame[4:8] != bytes(4)
        at += _FRAME_HEADER_BYTES + page_bytes
    return commits


def least_bytes(frames: int) -> int:
    """How long a log of so many frames is at least."""
    return _WAL_HEADER_BYTES + frames * (_FRAME_HEADER_BYTES + PAGE_BYTES) if frames > 0 else 0


def _is_whole(header: bytes) -> bool:
    """Whether the log's header has the checksum that it names."""
    if len(header) < _WAL_HEADER_BYTES:
        return True  # no log was begun
    order = ">" if header[3] & 1 else "<"
    words = struct.unpack(f"{order}6I", header[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return (first, second) == struct.unpack(">2I", header[24:32])
