"""The state directory: where one Standfast keeps its sockets, embedded database and local files.

Invariant: at most one process holds a state directory. The kernel gives the lock back when the holder dies,
however it dies, so a stale lock cannot exist; stale sockets can, and the next holder removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from standfast.errors import StateDirectoryError

SOCKET_PATH_LIMIT_BYTES = 100  # sun_path holds 104 (macOS) to 108 bytes, the closing zero among them
_LOCK_PATIENCE_S = 0.5  # `holder()` takes the lock for an instant; that must not look like a holder
_LOCK_POLL_S = 0.02


@dataclass(frozen=True)
class Holder:
    """The process that holds a state directory, as it described itself; pid 0 where it has not yet."""

    pid: int
    purpose: str
    started_at: str


class StateDirectory:
    """Paths, ownership and lock of one state directory. Errors are `StateDirectoryError`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock_fd: int | None = None

    @property
    def lock_file(self) -> Path:
        return self.path / "node.lock"

    @property
    def gateway_socket(self) -> Path:
        return self.path / "gateway.sock"

    @property
    def postgres_dir(self) -> Path:
        return self.path / "postgres"

    @property
    def simulator_dir(self) -> Path:
        return self.path / "simulator"

    def prepare(self) -> None:
        """Create the directory (0700, as those above it that are missing), or check that it is ours alone to write in,
        and usable."""
        try:
            for missing in reversed([one for one in self.path.parents if not one.exists()]):
                missing.mkdir(mode=0o700, exist_ok=True)  # with `parents=True` these would be open to others
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = self.path.stat()
        except (FileExistsError, NotADirectoryError):
            raise StateDirectoryError(f"{self.path} is not a directory") from None
        except OSError as error:
            raise StateDirectoryError(f"{self.path} cannot be made: {error.strerror}") from error
        self._check_owner(found)
        self._check_socket_path()

    def acquire(self, purpose: str = "service") -> None:
        """Prepare the directory and hold it until `release` or this process's end; remove stale sockets.
        Raises `StateDirectoryError` naming the process where another one holds it."""
        if not self.try_acquire(purpose):
            raise self._in_use()

    def try_acquire(self, purpose: str = "service") -> bool:
        """As `acquire`; False where another process holds the directory."""
        self.prepare()
        fd = self._open_lock()
        try:
            taken = _lock_within(fd, _LOCK_PATIENCE_S)
            if taken:
                _describe(fd, Holder(os.getpid(), purpose, time.strftime("%Y-%m-%dT%H:%M:%S%z")))
                self._remove_stale_sockets()
                self._lock_fd, fd = fd, -1
        except OSError as error:
            raise StateDirectoryError(f"{self.path} cannot be written: {error.strerror}") from error
        finally:
            if fd != -1:
                os.close(fd)
        return taken

    def release(self) -> None:
        """Let others have the directory. The lock file stays: removing it would let two hold it."""
        if self._lock_fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock_fd, 0)
            os.close(self._lock_fd)
            self._lock_fd = None

    def holder(self) -> Holder | None:
        """Who holds the directory now; None where nobody does."""
        try:
            fd = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateDirectoryError(f"{self.lock_file} cannot be read: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(fd)
        finally:
            os.close(fd)
        return None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.release()

    def _check_owner(self, found: os.stat_result) -> None:
        if found.st_uid != os.geteuid():
            raise StateDirectoryError(
                f"{self.path} belongs to another account (uid {found.st_uid}, this is uid {os.geteuid()})",
                next_step="Run as that account, or choose another directory with STANDFAST_STATE_DIR.",
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateDirectoryError(
                f"{self.path} can be written by other accounts (mode {stat.S_IMODE(found.st_mode):04o})",
                next_step=f"Close it: chmod 700 {self.path}",
            )
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise StateDirectoryError(f"{self.path} cannot be written")

    def _check_socket_path(self) -> None:
        length = len(os.fsencode(self.gateway_socket))
        if length > SOCKET_PATH_LIMIT_BYTES:
            raise StateDirectoryError(
                f"{self.gateway_socket} is too long for a socket: {length} bytes of {SOCKET_PATH_LIMIT_BYTES}",
                next_step="Choose a shorter directory with STANDFAST_STATE_DIR.",
            )

    def _open_lock(self) -> int:
        try:
            return os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateDirectoryError(f"{self.lock_file} cannot be opened: {error.strerror}") from error

    def _in_use(self) -> StateDirectoryError:
        holder = self.holder() or Holder(0, "", "")
        who = (
            f"pid {holder.pid} ({holder.purpose}, since {holder.started_at})"
            if holder.pid
            else "another process"
        )
        return StateDirectoryError(
            f"{self.path} is in use by {who}",
            next_step="Stop that process, or choose another directory with STANDFAST_STATE_DIR.",
            pid=holder.pid,
        )

    def _remove_stale_sockets(self) -> None:
        """Only the holder makes sockets here, so any that exist now were left by one that died."""
        for entry in self.path.iterdir():
            if entry.suffix == ".sock" and stat.S_ISSOCK(entry.lstat().st_mode):
                entry.unlink(missing_ok=True)


def _lock_within(fd: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOCK_POLL_S)
        else:
            return True


def _describe(fd: int, holder: Holder) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(asdict(holder)).encode(), 0)


def _read_holder(fd: int) -> Holder:
    try:
        return Holder(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError):
        return Holder(0, "", "")
