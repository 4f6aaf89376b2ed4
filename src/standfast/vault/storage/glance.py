"""A look into the vault's file from outside: what it holds, while another process has it open or none has.

Invariant: nothing on the disk is changed, made, locked for others or mended, not even SQLite's index of the log; what
does not read as it should raises, and is for the process that opens the vault to deal with.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from standfast.authstate.company import Company
from standfast.vault.storage.account import Account
from standfast.vault.storage.cipher import KEY_BYTES, Cipher, Unreadable
from standfast.vault.storage.damage import UNREADABLE

_BUSY_TIMEOUT_S = 0.3
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock


@dataclass(frozen=True, slots=True)
class Glance:
    """`journal_batches` of `journal_bytes`, the oldest of `journal_since`, are not known to be in PostgreSQL: what
    was applied is noted in the file a moment later."""

    companies: int
    held: int
    journal_batches: int
    journal_bytes: int
    journal_since: float | None
    quarantine: int
    size_bytes: int


class GlanceFailed(Exception):
    """The file cannot be looked at; the text says why, without a secret."""


def glance(directory: Path, key: bytes | None, timeout_s: float) -> Glance | None:
    """Raises `GlanceFailed`; None where there is no vault. `key` None: the vault's own, beside it."""
    path = directory / "vault.db"
    try:
        if not path.exists():
            return None
        connection = _connect(path)
    except (OSError, sqlite3.Error) as error:
        raise GlanceFailed(f"the vault's file cannot be opened: {type(error).__name__}") from error
    deadline = time.monotonic() + timeout_s
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        return _read(connection, Cipher(_key(directory, key)), path)
    except (*UNREADABLE, OSError, KeyError) as error:
        raise GlanceFailed(f"the vault's file cannot be read: {type(error).__name__}") from error
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Where there is a log, its index must be there too, and is only read. Where there is none, the file alone is the
    whole, and SQLite is told so, for it would make a log to find out."""
    log = path.with_name(path.name + "-wal")
    how = "mode=ro&readonly_shm=1" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=_BUSY_TIMEOUT_S)


def _key(directory: Path, key: bytes | None) -> bytes:
    found = (directory / "vault.key").read_bytes() if key is None else key
    if len(found) != KEY_BYTES:
        raise Unreadable("the vault's key does not have the length of one")
    return found


def _read(connection: sqlite3.Connection, cipher: Cipher, path: Path) -> Glance:
    connection.execute("begin")
    accounts = {
        number: Account.unsealed(cipher, number, Company(company), state)
        for number, company, state in connection.execute("select number, company, state from companies")
    }
    batches = size = 0
    since: float | None = None
    for number, last, bytes_, at in connection.execute("select number, last, size, at from journal"):
        if last > accounts[number].applied:
            batches, size = batches + 1, size + bytes_
            since = at if since is None else min(since, at)
    quarantine = connection.execute("select count(*) from quarantine").fetchone()[0]
    sizes = (path.with_name(path.name + suffix) for suffix in ("", "-wal"))
    return Glance(
        companies=len(accounts),
        held=sum(account.held for account in accounts.values()),
        journal_batches=batches,
        journal_bytes=size,
        journal_since=since,
        quarantine=quarantine,
        size_bytes=sum(file.stat().st_size for file in sizes if file.exists()),
    )
