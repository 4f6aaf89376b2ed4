"""A small file system of our own, so that PostgreSQL's disk can really be full.

Invariant: it exists for this process and its children alone, and is gone with them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MNT_DETACH = 2


def enter_private_mounts() -> bool:
    """Whether this process, which must have one thread only, may mount from now on. Needs no privileges where the
    kernel lets everybody make user namespaces."""
    if sys.platform != "linux":
        return False
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        return False
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text, "ascii")
    except OSError:
        return False
    return True


def mount_small(directory: Path, size_bytes: int) -> bool:
    """Whether `directory` is now a file system in memory that holds no more than `size_bytes`."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size_bytes},mode=0700".encode()
    return bool(libc.mount(b"tmpfs", os.fsencode(directory), b"tmpfs", 0, options) == 0)


def unmount(directory: Path) -> None:
    """Undo `mount_small`."""
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(directory), _MNT_DETACH)


class Filler:
    """Takes all the room that is left in `directory`, and gives it back."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "filler"

    def fill(self) -> None:
        with self._file.open("ab", buffering=0) as file:
            for size in (2**20, 2**12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def empty(self) -> None:
        self._file.unlink(missing_ok=True)
