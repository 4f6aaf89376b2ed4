"""The vault's file: that the key opens it, and what it still holds for somebody to do.

Invariant: no value of it is read but the sentinel, which only tells that the key is the right one.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from standfast.errors import StandfastError
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, warning, wrong
from standfast.service.doctor.sealed import is_busy, key_of, reading
from standfast.vault.storage import quarantine, schema
from standfast.vault.storage.cipher import KEY_BYTES, Cipher, Unreadable
from standfast.vault.storage.damage import UNREADABLE, describe

_SENTINEL = "standfast"
_REBUILT = (
    "Start the service: it moves the file aside, carries over what it can read of it and rebuilds the rest from "
    "PostgreSQL. Copy the directory first:\n"
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
        cipher = Cipher(key_of(patient))
    except StandfastError as error:
        yield wrong("state.vault_key", "vault key", error.message, error.next_step)
        return
    if patient.settings.vault_key_file is None:
        yield _key_mode(directory / "vault.key")
    try:
        with reading(file) as connection:
            schema.check_tables(connection)
            _check_sentinel(connection, cipher)
            yield from _contents(connection, file)
    except UNREADABLE as error:
        if is_busy(error):
            yield skipped("state.vault", "vault", "another process keeps it locked just now")
        else:
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
    kept = _REBUILT + command("cp", "-a", directory, f"{directory}.kept")
    if isinstance(error, Unreadable):
        which = patient.settings.vault_key_file or directory / "vault.key"
        return wrong(
            "state.vault",
            "vault",
            f"{which} does not open {directory / 'vault.db'}: it is another key's, or was changed",
            "Put back the key that it was made with (STANDFAST_VAULT_KEY_FILE, or vault.key from a copy).\n"
            f"Without it: {kept[0].lower()}{kept[1:]}",
        )
    return wrong("state.vault", "vault", f"damaged: {describe(error)}", kept)


def _check_sentinel(connection: sqlite3.Connection, cipher: Cipher) -> None:
    found = connection.execute(_NOTE).fetchone()
    if found is None or cipher.open(found[0], "note\0sentinel").decode() != _SENTINEL:
        raise Unreadable("the vault's file has no sentinel")


def _key_mode(file: Path) -> Result:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return wrong(
            "state.vault_key",
            "vault key",
            f"{file} can be read by others (mode {mode:04o})",
            command("chmod", 600, file),
        )
    return ok("state.vault_key", "vault key", f"{KEY_BYTES} bytes, mode {mode:04o}")


def _mb(count: int) -> int:
    return count // 2**20
