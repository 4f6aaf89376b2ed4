"""Damage to a node's vault, done to its files while no process has them open.

Invariant: what is damaged, and where, follows from the schedule and the files' sizes alone.
"""

from __future__ import annotations

import os
from pathlib import Path

FILES = ("vault.db", "vault.db-wal")


def harm(directory: Path, how: str, where: float) -> bool:
    """Flip a bit, cut a file short, or empty it, at `where` (0 to 1) of all there is; False: there is nothing."""
    files = [path for name in FILES if (path := directory / name).exists() and path.stat().st_size]
    position = int(where * sum(path.stat().st_size for path in files))
    for path in files:
        size = path.stat().st_size
        if position < size:
            _harm(path, how, position)
            return True
        position -= size
    return False


def _harm(path: Path, how: str, position: int) -> None:
    if how != "flip":
        os.truncate(path, 0 if how == "empty" else position)
        return
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << position % 8)]))
