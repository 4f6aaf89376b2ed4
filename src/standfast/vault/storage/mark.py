"""`Mark`: a small file beside the vault's file that says what must be found when it is opened again, and whose it is.

SQLite reads a log that was cut short, or is gone, as far as there is any, and says nothing. Invariant: while the log is
in use the mark names a size that the log has on the disk and an opening that the file or its log tells of; it is closed
before SQLite may remove the log.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from standfast.vault.storage.cipher import sync_directory


@dataclass(frozen=True, slots=True)
class Mark:
    """`opened` is the opening that the log belongs to, empty where the file was closed in order; `log_bytes` the log's
    least size then, `boot_id` the run of the machine in which it was begun."""

    node: str
    opened: str = ""
    log_bytes: int = 0
    boot_id: str = ""


def read(path: Path) -> Mark | None:
    """None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (OSError, msgspec.MsgspecError):
        return None


def put(path: Path, mark: Mark) -> None:
    """Durable on return. Raises `OSError`; what stood there stands then."""
    beside = path.with_name(path.name + ".new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(mark))
        os.fsync(fd)
    finally:
        os.close(fd)
    beside.replace(path)
    sync_directory(path.parent)


def close(path: Path, node: str) -> None:
    """From here on SQLite may carry the log into the file and remove it."""
    try:
        put(path, Mark(node))
    except OSError:
        # On a full disk. Where not even this can be done, the log cannot be removed either.
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
