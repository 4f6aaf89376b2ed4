"""What the state directory lies on: the kind of file system, its room, and how long a write takes to be safe there.

Invariant: the only write is one temporary file, synced and removed, to see how long that takes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, command, ok, skipped, warning, wrong

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p", "fuse.sshfs"}
)
MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
LITTLE_BYTES, LEAST_BYTES = 1_000_000_000, 200_000_000
LEAST_INODES = 1_000
SLOW_SYNC_S = 0.05
SYNCS = 3
_MEMORY_MEND = "Choose a directory on a disk with STANDFAST_STATE_DIR; /var/lib/standfast is a good place."
_SLOW_MEND = (
    "Put the state directory on a local SSD (STANDFAST_STATE_DIR), or ease what else keeps this disk busy."
)


def filesystem(patient: Patient) -> Iterator[Result]:
    """SQLite's log is shared by memory that network file systems do not have."""
    place = existing(patient.state.path)
    kind, mount = _mounted(place)
    told = f"{kind or 'unknown'} (mounted at {mount})"
    if kind in NETWORK_FILESYSTEMS:
        yield wrong(
            "state.filesystem",
            "file system",
            f"{told} is a network's: the vault's file can be damaged",
            _MEMORY_MEND,
        )
    elif kind in MEMORY_FILESYSTEMS:
        yield warning(
            "state.filesystem", "file system", f"{told} is memory: all is gone at a reboot", _MEMORY_MEND
        )
    elif kind == "overlay" and Path("/.dockerenv").exists():
        yield warning(
            "state.filesystem",
            "file system",
            f"{told} is the container's own: all is gone with the container",
            f"Mount a volume there: docker run -v standfast:{patient.state.path} (and so on).",
        )
    elif kind.startswith("fuse.") and kind != "fuse.fuse-overlayfs":
        yield warning(
            "state.filesystem", "file system", f"{told} may lack what SQLite's log needs", _MEMORY_MEND
        )
    else:
        yield ok("state.filesystem", "file system", told)


def space(patient: Patient) -> Iterator[Result]:
    """Room for the journal of an outage."""
    place = existing(patient.state.path)
    disk, inodes = shutil.disk_usage(place), os.statvfs(place)
    told = f"{_mb(disk.free)} MB free of {_mb(disk.total)} MB"
    mend = (
        f"Free disk space on {_mounted(place)[1]}; the largest there are:\n"
        f"{command('du', '-xh', '--max-depth=2', _mounted(place)[1])} | sort -h | tail"
    )
    if disk.free < LEAST_BYTES:
        yield wrong("state.space", "free space", f"{told}: an outage's journal may not fit", mend)
    elif disk.free < LITTLE_BYTES:
        yield warning("state.space", "free space", told, mend)
    elif inodes.f_files and inodes.f_favail < LEAST_INODES:
        yield wrong("state.space", "free inodes", f"{inodes.f_favail} left of {inodes.f_files}", mend)
    else:
        yield ok("state.space", "free space", told)


def sync(patient: Patient) -> Iterator[Result]:
    """Each acknowledged write waits for the disk once."""
    path = patient.state.path
    if not path.is_dir():
        yield skipped("state.sync", "disk", "the directory does not exist yet")
        return
    try:
        took_s = _sync_s(path)
    except OSError as error:
        yield wrong(
            "state.sync",
            "disk",
            f"{path} takes no writes: {error.strerror}",
            "See its rights, and whether the disk is full or read-only:\n" + command("df", "-h", path),
        )
        return
    told = f"a write is on the disk after {took_s * 1000:.1f} ms"
    if took_s > SLOW_SYNC_S:
        yield warning("state.sync", "disk", f"{told}; every message waits for that", _SLOW_MEND)
    else:
        yield ok("state.sync", "disk", told)


def existing(path: Path) -> Path:
    """`path`, or the nearest above it that is there."""
    return next((one for one in (path, *path.parents) if one.is_dir()), Path("/"))


def _sync_s(directory: Path) -> float:
    took_s = []
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".doctor-") as file:
        for _ in range(SYNCS):
            began = time.monotonic()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fsync(file.fileno())
            took_s.append(time.monotonic() - began)
    return statistics.median(took_s)


def _mounted(place: Path) -> tuple[str, str]:
    """Kind and mount point of the file system that `place` lies on."""
    resolved = place.resolve()
    above = {str(resolved), *map(str, resolved.parents)}
    # Of two that are mounted at one point the later is the one that is seen.
    found = [part for part in psutil.disk_partitions(all=True) if part.mountpoint in above]
    best = max(enumerate(found), key=lambda one: (len(one[1].mountpoint), one[0]), default=None)
    return ("", "/") if best is None else (best[1].fstype, best[1].mountpoint)


def _mb(count: int) -> int:
    return count // 2**20
