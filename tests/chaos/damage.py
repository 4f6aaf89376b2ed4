"""Damage to a node's vault, done to its files while no process has them open.

Invariant: what is damaged, and where, follows from the schedule and from what the files hold.
"""

from __future__ import annotations

import os
from pathlib import Path

FILES = ("vault.db", "vault.db-wal")
_HEADER_BYTES = 32
_FRAME_BYTES = 24 + 4096


def harm(directory: Path, how: str, where: float) -> bool:
    """Flip a bit, cut a file short, or empty it, at `where` (0 to 1) of all that is in use; False: there is nothing."""
    files = [path for name in FILES if (path := directory / name).exists() and path.stat().st_size]
    position = int(where * sum(_used(path) for path in files))
    for path in files:
        size = _used(path)
        if position < size:
            _harm(path, how, position)
            return True
        position -= size
    return False


def _used(path: Path) -> int:
    """Of a log, what SQLite would read: it is made longer than that at once."""
    if path.suffix != ".db-wal":
        return path.stat().st_size
    with path.open("rb") as log:
        salt = log.read(_HEADER_BYTES)[16:24]
        used = _HEADER_BYTES
        while len(frame := log.read(_FRAME_BYTES)) == _FRAME_BYTES and frame[8:16] == salt != bytes(8):
            used += _FRAME_BYTES
    return used


def _harm(path: Path, how: str, position: int) -> None:
    if how != "flip":
        os.truncate(path, 0 if how == "empty" else position)
        return
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << position % 8)]))
