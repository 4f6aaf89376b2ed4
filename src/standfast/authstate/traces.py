"""What a write leaves behind of a file beside its content, by which a folder that nobody has touched is known without
being read.

Invariant: equality alone counts, never which time is later: clocks are set back, and the time of a change (`st_ctime`)
cannot be set by the programs that change, copy or restore a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

Trace = tuple[str, int, int, int]
"""A file's name, inode, time of its last change in ns, and size in bytes."""


def trace(name: str, descriptor: int) -> Trace:
    """Of a file that is open and was written."""
    found = os.fstat(descriptor)
    return name, found.st_ino, found.st_ctime_ns, found.st_size


def traces_in(directory: Path, without: Iterable[str]) -> list[Trace]:
    """Of all that lies in a folder but hidden files. Raises `OSError`."""
    at, traces = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), list[Trace]()
    try:
        names = set(os.listdir(at)).difference(without)  # noqa: PTH208 - of an open directory
        for name in names:
            if not name.startswith("."):
                found = os.stat(name, dir_fd=at, follow_symlinks=False)
                traces.append((name, found.st_ino, found.st_ctime_ns, found.st_size))
    finally:
        os.close(at)
    return traces


def digest_of(traces: Iterable[Trace]) -> str:
    """The same for the same traces in any order."""
    lines = "\n".join(f"{size} {changed} {inode} {name}" for name, inode, changed, size in sorted(traces))
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
