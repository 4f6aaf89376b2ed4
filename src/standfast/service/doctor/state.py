"""The state directory: whose it is, who can get at it, what it lies on, who holds it.

Invariant: the only write is one temporary file, synced and removed, to see how long that takes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from standfast.errors import StandfastError
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Result, ok, skipped, warning, wrong
from standfast.state_dir import SOCKET_PATH_LIMIT_BYTES

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p", "fuse.sshfs"}
)
MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
LITTLE_BYTES, LEAST_BYTES = 1_000_000_000, 200_000_000
LEAST_INODES = 1_000
SLOW_SYNC_S = 0.05
SYNCS = 3
FILES_LOOKED_AT = 20_000
SERVICE_TIMEOUT_S = 3.0
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MEMORY_MEND = "Choose a directory on a disk with STANDFAST_STATE_DIR; /var/lib/standfast is a good place."


def directory(patient: Patient) -> Iterator[Result]:
    """There, ours, and closed to others; or it can be made."""
    path = patient.state.path
    if not path.exists():
        yield _to_be_made(path)
        return
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        yield wrong("state.directory", "directory", f"{path} is not a directory", f"mv {path} {path}.other")
    elif found.st_uid != os.geteuid():
        yield wrong(
            "state.directory",
            "directory",
            f"{path} belongs to uid {found.st_uid}, this is uid {os.geteuid()}",
            f"Run as that account: sudo -u '#{found.st_uid}' standfast doctor; or choose another STANDFAST_STATE_DIR.",
        )
    elif found.st_mode & _OTHERS:
        # One that others can write in is refused by the service; what lies in one that they can list is closed.
        tell = wrong if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else warning
        yield tell(
            "state.directory",
            "directory",
            f"{path} is open to other accounts (mode {stat.S_IMODE(found.st_mode):04o})",
            f"chmod 700 {path}",
        )
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield wrong("state.directory", "directory", f"{path} cannot be written", f"chmod 700 {path}")
    else:
        yield ok("state.directory", "directory", f"{path}, mode {stat.S_IMODE(found.st_mode):04o}")


def socket_path(patient: Patient) -> Iterator[Result]:
    length = len(os.fsencode(patient.state.gateway_socket))
    told = f"its path has {length} bytes of {SOCKET_PATH_LIMIT_BYTES}"
    if length > SOCKET_PATH_LIMIT_BYTES:
        yield wrong(
            "state.socket", "gateway socket", told, "Choose a shorter directory with STANDFAST_STATE_DIR."
        )
    else:
        yield ok("state.socket", "gateway socket", told)


def files(patient: Patient) -> Iterator[Result]:
    """Every file below it: its owner, and that nobody else can read it. PostgreSQL minds its own."""
    state = patient.state
    if not state.path.is_dir():
        return
    foreign, open_to_others, ahead = [], [], []
    now, count = time.time(), 0
    for count, (path, found) in enumerate(_below(state.path, state.postgres_dir), 1):  # noqa: B007 - counts them
        if found.st_uid != os.geteuid():
            foreign.append(path)
        if found.st_mode & _OTHERS and not stat.S_ISSOCK(found.st_mode):
            open_to_others.append(path)
        if found.st_mtime > now + 60:
            ahead.append(path)
    if foreign:
        yield wrong(
            "state.files",
            "files",
            f"{len(foreign)} belong to another account, such as {foreign[0]}",
            f"chown -R {os.geteuid()} {state.path}",
        )
    if open_to_others:
        yield warning(
            "state.files",
            "files",
            f"{len(open_to_others)} are open to other accounts by their mode, such as {open_to_others[0]}",
            f"chmod -R go-rwx {state.path}",
        )
    if ahead:
        yield warning(
            "state.files",
            "files",
            f"{len(ahead)} were written in the future, such as {ahead[0]}: the clock was or is wrong",
            "Correct the clock (date); times of what happened meanwhile stay as they were written.",
        )
    if not (foreign or open_to_others or ahead):
        yield ok("state.files", "files", f"{count} looked at: all this account's, closed to others")


def filesystem(patient: Patient) -> Iterator[Result]:
    """SQLite's log is shared by memory that network file systems do not have."""
    place = _existing(patient.state.path)
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
            f"Mount a volume there: docker run -v standfast:{patient.state.path} …",
        )
    elif kind.startswith("fuse.") and kind != "fuse.fuse-overlayfs":
        yield warning(
            "state.filesystem", "file system", f"{told} may lack what SQLite's log needs", _MEMORY_MEND
        )
    else:
        yield ok("state.filesystem", "file system", told)


def space(patient: Patient) -> Iterator[Result]:
    """Room for the journal of an outage."""
    place = _existing(patient.state.path)
    disk, inodes = shutil.disk_usage(place), os.statvfs(place)
    told = f"{_mb(disk.free)} MB free of {_mb(disk.total)} MB"
    mend = f"Free disk space on {_mounted(place)[1]}: du -xh --max-depth=2 {place} | sort -h | tail"
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
            f"See 'df -h {path}', and its rights.",
        )
        return
    told = f"a write is on the disk after {took_s * 1000:.1f} ms"
    if took_s > SLOW_SYNC_S:
        yield warning("state.sync", "disk", f"{told}; every message waits for that", _SLOW_MEND)
    else:
        yield ok("state.sync", "disk", told)


def holder(patient: Patient) -> Iterator[Result]:
    """Who holds it, and whether a service that does also answers."""
    found = patient.holder()
    if found is None:
        yield ok("state.service", "service", "does not run: standfast up")
        return
    who = (
        f"{found.purpose or 'a process'} (pid {found.pid}, since {found.started_at})"
        if found.pid
        else "a process"
    )
    if not patient.service_runs():
        yield ok("state.service", "held by", who)
        return
    try:
        asyncio.run(_asked(patient))
    except (TimeoutError, StandfastError) as error:
        said = (
            error.message
            if isinstance(error, StandfastError)
            else f"no answer within {SERVICE_TIMEOUT_S:g} s"
        )
        yield wrong(
            "state.service",
            "service",
            f"{who} holds the directory and does not answer: {said}",
            f"Wait if it is just starting; else end it and start it again: kill {found.pid}; standfast up",
        )
        return
    yield ok("state.service", "service", f"answers: {who}")


async def _asked(patient: Patient) -> None:
    from standfast.service.client import connect

    async with asyncio.timeout(SERVICE_TIMEOUT_S), connect(patient.state.gateway_socket) as client:
        await client.status()


def _to_be_made(path: Path) -> Result:
    above = _existing(path)
    if os.access(above, os.W_OK | os.X_OK):
        return ok("state.directory", "directory", f"{path} is not there yet; the first start makes it")
    return wrong(
        "state.directory",
        "directory",
        f"{path} is not there, and this account cannot write in {above}",
        f"sudo install -d -m 700 -o {os.geteuid()} {path}",
    )


def _below(top: Path, but: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """At most so many, without those of `but`; what goes meanwhile is passed over."""
    left = FILES_LOOKED_AT
    for folder, names, inside in os.walk(top):
        if Path(folder) == top and but.name in names:
            names.remove(but.name)
        for name in (*names, *inside):
            path = Path(folder, name)
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue
            left -= 1
        if left <= 0:
            return


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


def _existing(path: Path) -> Path:
    """`path`, or the nearest above it that is there."""
    return next((one for one in (path, *path.parents) if one.is_dir()), Path("/"))


def _mb(count: int) -> int:
    return count // 2**20


_SLOW_MEND = (
    "Put the state directory on a local SSD (STANDFAST_STATE_DIR), or ease what else keeps this disk busy."
)
