"""`StepsFile`: how far a restore has come, for whoever goes on with it after a crash.

Invariant: what the file says of a company was so before anything further was done to it; the file is there exactly
while a restore is unfinished.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from standfast.errors import JobRunning, RestoreRefused, StateDirectoryError
from standfast.jobs.backup.catalogue import sync_directory, write_private
from standfast.jobs.restore.plan import Action

FORMAT = 1
NAME = "restore.json"
Stage = Literal["planned", "kept", "done"]


class Step(msgspec.Struct, omit_defaults=True):
    """One company. `kept`: where its former state lies; None: it had none, or it is not kept yet. `epoch`: one that a
    restored state is above. `ran`: its session was wanted."""

    action: Action
    stage: Stage = "planned"
    kept: str | None = None
    epoch: int = 0
    ran: bool = False


class Steps(msgspec.Struct, omit_defaults=True):
    """`source` as the command named it, `target` for people; `other_database`: it was given with --to;
    `was_lost`: it was empty, and has become the source's again."""

    format: int
    id: str
    source: str
    target: str
    started_at: float
    companies: dict[str, Step]
    other_database: bool = False
    was_lost: bool = False
    named: list[str] = []
    replay: bool = True
    force: bool = False
    replace_identity: list[str] = []


class StepsFile:
    """In the state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / NAME

    def read(self) -> Steps | None:
        """The unfinished restore; None where there is none. `StateDirectoryError` where that cannot be known."""
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=Steps)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise StateDirectoryError(
                f"{self.path} cannot be read: {error}",
                next_step="It says how far a restore has come. Move it away to give that up; look at the plan anew.",
            ) from error
        if found.format > FORMAT:
            raise StateDirectoryError(f"{self.path} is of a later version of Standfast")
        return found

    def refuse_unfinished(self) -> None:
        """Raises `RestoreRefused` while a restore is unfinished."""
        found = self.read()
        if found is not None:
            raise RestoreRefused(
                f"a restore of {found.source} is unfinished",
                next_step="Go on with it: standfast backup restore --resume; or put back what it replaced: --abandon.",
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """This process alone works off the file. `JobRunning` where another does."""
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JobRunning("a restore runs already, from another process on this machine") from None
            yield
        finally:
            os.close(descriptor)

    async def write(self, steps: Steps) -> None:
        """Durable once this returns."""
        try:
            await asyncio.to_thread(write_private, self.path, msgspec.json.format(msgspec.json.encode(steps)))
        except OSError as error:
            raise StateDirectoryError(
                f"{self.path} cannot be written: {error.strerror}",
                next_step="Free disk space; then: --resume.",
            ) from error

    async def remove(self) -> None:
        """The restore has ended."""

        def remove() -> None:
            self.path.unlink(missing_ok=True)
            sync_directory(self.path.parent)

        await asyncio.to_thread(remove)
