"""The vault's file and the messages' file: that the key opens them, and what they still hold for somebody to do.

Invariant: both are read without a change to them or to what lies beside them, whether a service uses them or not.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from standfast.errors import StandfastError
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, ok, skipped, warning, wrong
from standfast.vault.storage import quarantine, schema
from standfast.vault.storage.cipher import KEY_BYTES, Cipher, Unreadable, read_key
from standfast.vault.storage.damage import UNREADABLE, describe

BUSY_TIMEOUT_S = 2.0
_SENTINEL = "standfast"
_REBUILT = (
    "Start the service: it moves the file aside, carries over what it can read of it and rebuilds the rest from "
    "PostgreSQL. Copy the directory first: cp -a {directory} {directory}.kept"
)
_JOURNAL = "select count(*), coalesce(sum(size), 0), min(at) from journal"
_NOTE = "select note from notes where name = 'sentinel'"


def vault(patient: Patient) -> Iterator[Result]:
    """The key, the file under that key, and what waits in it."""
    directory, file = patient.vault_dir, patient.vault_dir / "vault.db"
    if not file.exists():
        yield skipped("state.vault", "vault", "there is none yet; the first start makes it")
        return
    try:
        cipher = Cipher(_key(patient))
    except StandfastError as error:
        yield wrong("state.vault_key", "vault key", error.message, error.next_step)
        return
    if patient.settings.vault_key_file is None:
        yield _key_mode(directory / "vault.key")
    try:
        with _reading(file) as connection:
            schema.check_tables(connection)
            _check_sentinel(connection, cipher)
            yield from _contents(connection, file)
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        yield skipped("state.vault", "vault", "another process keeps it locked just now")
    except UNREADABLE as error:
        yield _damaged(patient, error)


def _contents(connection: sqlite3.Connection, file: Path) -> Iterator[Result]:
    batches, size, _ = connection.execute(_JOURNAL).fetchone()
    log = file.with_name(file.name + "-wal")
    told = f"the key opens it; {_mb(file.stat().st_size)} MB"
    if log.exists():
        told += f" and {_mb(log.stat().st_size)} MB of log"
    yield ok("state.vault", "vault", told)
    waiting = (
        "empty" if not batches else f"{batches} batches ({size} bytes) that PostgreSQL does not have yet"
    )
    yield ok("state.journal", "journal", waiting)
    entries = quarantine.entries(connection)
    if entries:
        companies = ", ".join(sorted({entry.company for entry in entries})[:5])
        yield warning(
            "state.quarantine",
            "quarantine",
            f"{len(entries)} journals wait for a decision: {companies}",
            "standfast quarantine list",
        )
    else:
        yield ok("state.quarantine", "quarantine", "empty")


def _damaged(patient: Patient, error: Exception) -> Result:
    directory = patient.vault_dir
    if isinstance(error, Unreadable):
        which = patient.settings.vault_key_file or directory / "vault.key"
        return wrong(
            "state.vault",
            "vault",
            f"{which} does not open {directory / 'vault.db'}: it is another key's, or was changed",
            "Put back the key that it was made with (STANDFAST_VAULT_KEY_FILE, or vault.key from a copy). "
            "Without it: " + _REBUILT.format(directory=directory),
        )
    return wrong("state.vault", "vault", f"damaged: {describe(error)}", _REBUILT.format(directory=directory))


def _check_sentinel(connection: sqlite3.Connection, cipher: Cipher) -> None:
    found = connection.execute(_NOTE).fetchone()
    if found is None or cipher.open(found[0], "note\0sentinel").decode() != _SENTINEL:
        raise Unreadable("the vault's file has no sentinel")


def _key(patient: Patient) -> bytes:
    """As the service finds it, except that none is made."""
    named = patient.settings.vault_key_file
    return read_key(named or patient.vault_dir / "vault.key")


def _key_mode(file: Path) -> Result:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return wrong(
            "state.vault_key",
            "vault key",
            f"{file} can be read by others (mode {mode:04o})",
            f"chmod 600 {file}",
        )
    return ok("state.vault_key", "vault key", f"{KEY_BYTES} bytes, mode {mode:04o}")


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Where the log's index is there, the log is read too, through memory of ours where nobody else has it open: SQLite
    then makes and removes no file. Where it is not, the file was closed in order and is all there is."""
    how = "mode=ro&readonly_shm=1" if file.with_name(file.name + "-shm").exists() else "immutable=1"
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    try:
        yield connection
    finally:
        connection.close()


def _mb(count: int) -> int:
    return count // 2**20
