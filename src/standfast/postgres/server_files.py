"""The files beside the embedded server's data: where its socket is, what its pid file says, its log.

Invariant: nothing here is read or written by anybody but the owner of the state directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from standfast.errors import StateDirectoryError
from standfast.postgres.cluster import replace_file

SOCKET_PORT = 5432
SOCKET_PATH_LIMIT_BYTES = 100
LOG_LIMIT_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class PidFile:
    """PostgreSQL's own `postmaster.pid`, complete only once the server has come up."""

    pid: int
    port: int
    socket_dir: Path
    is_ready: bool


def read_pid_file(data_dir: Path) -> PidFile | None:
    """None where there is none, or none that is complete yet."""
    try:
        lines = (data_dir / "postmaster.pid").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8 or not (lines[0].isdecimal() and lines[3].isdecimal()):
        return None
    return PidFile(int(lines[0]), int(lines[3]), Path(lines[4].strip()), lines[7].strip() == "ready")


def socket_directory(state_dir: Path) -> Path:
    """Inside the state directory where its path is short and plain enough for a socket's address; else one of
    its own under the system's temporary directory, the same at each call."""
    inside = state_dir.absolute() / "postgres-socket"
    length = len(os.fsencode(inside)) + len(f"/.s.PGSQL.{SOCKET_PORT:05d}")
    # PostgreSQL splits its setting at commas and libpq takes a leading '@' for an abstract socket.
    if length <= SOCKET_PATH_LIMIT_BYTES and re.fullmatch(r"/[\w./+-]+", str(inside), re.ASCII):
        return inside
    digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"standfast-{os.geteuid()}-{digest}"


def make_private(directory: Path) -> None:
    """Make `directory`, or see that it is ours; nobody else may enter it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.geteuid() or directory.is_symlink():
        raise StateDirectoryError(f"{directory} belongs to somebody else")
    if found.st_mode & 0o077:
        directory.chmod(0o700)


def bound_log(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
    """Move a log that has grown past `limit_bytes` to `.1` and begin it again; the server goes on writing to it."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size <= limit_bytes:
            return
        older = path.with_name(f"{path.name}.1")
        replace_file(older, tail(path, path.stat().st_size - limit_bytes))
        os.truncate(path, 0)


def tail(path: Path, offset: int) -> str:
    """What stands in `path` after `offset`; nothing where it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, offset))
        return file.read(LOG_LIMIT_BYTES).decode("utf-8", "replace")
    return ""
