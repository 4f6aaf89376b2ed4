"""Reading the SQLite files of the state directory, whose values are sealed, as a bystander.

Invariant: nothing is changed, made or removed, whether a service uses the file or not; a key is never made.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from standfast.service.doctor.patient import Patient
from standfast.vault.storage.cipher import read_key

BUSY_TIMEOUT_S = 2.0


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
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


def is_busy(error: Exception) -> bool:
    """Whether it is the file of somebody who is at work, rather than a fault."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def key_of(patient: Patient) -> bytes:
    """As the service finds it, except that none is made. Raises `SettingsError`."""
    return read_key(patient.settings.vault_key_file or patient.vault_dir / "vault.key")
