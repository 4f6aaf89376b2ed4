"""`ModeFile`: whether this node stands on files, and how far its way back has come.

Invariant: the file is there exactly while the node stands on files. One durable write begins that, one durable removal
ends it: whatever is killed in between, the node is in one of the two modes and no other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from standfast.errors import DatabaseUnavailable, EmergencyRefused, JobRunning, StateDirectoryError
from standfast.jobs.backup.catalogue import sync_directory, write_private

FORMAT = 1
NAME = "emergency.json"
Stage = Literal["files", "to-postgres"]


class Placed(msgspec.Struct, omit_defaults=True):
    """A company whose auth state went to a folder. `source`: "replica", "postgresql", or "backup ID". `epoch` and
    `sequence` are those that the state had then; `folder` is its name below the mode's root."""

    source: str
    epoch: int
    sequence: int
    folder: str


class Mode(msgspec.Struct, omit_defaults=True):
    """`id` names this emergency in reports; `since` is by the wall clock. `done`: companies that PostgreSQL has again,
    in stage "to-postgres"."""

    format: int
    id: str
    stage: Stage
    since: float
    root: str
    companies: dict[str, Placed]
    reason: str = ""
    done: list[str] = []

    @property
    def cause(self) -> DatabaseUnavailable:
        """What everybody is told who wants something of PostgreSQL."""
        return DatabaseUnavailable(
            "this node stands on files: PostgreSQL is left alone",
            cause="on_files",
            next_step="Go back once PostgreSQL is well: standfast emergency to-postgres",
        )


class ModeFile:
    """In the state directory, which exists."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / NAME

    def read(self) -> Mode | None:
        """The mode; None where PostgreSQL is the node's store. `StateDirectoryError` where that cannot be known."""
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=Mode)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise StateDirectoryError(
                f"{self.path} cannot be read: {error}",
                next_step="It says that this node stands on files. Mend its rights; to give the mode up, move it away: "
                "the vault then goes on with PostgreSQL, and the folders stay.",
            ) from error
        if found.format > FORMAT:
            raise StateDirectoryError(f"{self.path} is of a later version of Standfast")
        return found

    def write(self, mode: Mode) -> None:
        """Durable once this returns. `StateDirectoryError` where it cannot be; then the former one stands."""
        try:
            write_private(self.path, msgspec.json.format(msgspec.json.encode(mode)))
        except OSError as error:
            raise StateDirectoryError(
                f"{self.path} cannot be written: {error.strerror}",
                next_step="Free disk space; then try again.",
            ) from error

    def remove(self) -> None:
        """PostgreSQL is the node's store again; durable once this returns."""
        try:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)
        except OSError as error:
            raise StateDirectoryError(
                f"{self.path} cannot be removed: {error.strerror}",
                next_step="Mend its rights; then try again.",
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """This process alone switches this node. `JobRunning` where another does."""
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobRunning("an emergency command runs already on this machine") from None
            yield
        finally:
            os.close(descriptor)

    def refuse_on_files(self) -> None:
        """Raises `EmergencyRefused` where the node stands on files."""
        found = self.read()
        if found is not None:
            raise EmergencyRefused(
                f"this node stands on files already, in {found.root}",
                next_step="'standfast emergency status' shows more; the way back is 'standfast emergency to-postgres'.",
            )
