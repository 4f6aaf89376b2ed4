"""What sending has done, and how the remotes are.

Invariant: nothing here is a secret; `where` is an address without password and keys.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Sent(msgspec.Struct):
    """Of one remote. `error`: why it failed, as on the wire; `problems`: backups of this machine that could not be sent
    though the remote is well. `waiting`: what it still lacks. `next_try_at`: it failed before and is left alone until
    then, in seconds since 1970."""

    remote: str
    where: str
    duration_s: float = 0.0
    sent: list[str] = []
    bytes: int = 0
    removed: list[str] = []
    waiting: list[str] = []
    held: int = 0
    error: dict[str, Any] | None = None
    problems: list[str] = []
    next_try_at: float | None = None

    @property
    def ok(self) -> bool:
        return self.error is None and not self.problems and self.next_try_at is None


class RemotesReport(msgspec.Struct):
    """Of all. `not_encrypted`: good backups that are not sent because they are in the clear."""

    remotes: list[Sent]
    not_encrypted: list[str] = []

    @property
    def ok(self) -> bool:
        return all(one.ok for one in self.remotes)


class RemoteState(msgspec.Struct):
    """How one is now. `state`: "up to date", "behind" (good backups wait), "empty" or "down"; `message` says more."""

    name: str
    kind: str
    where: str
    state: str
    message: str = ""
    backups: int = 0
    bytes: int = 0
    newest: str | None = None
    newest_age_s: float | None = None
    waiting: list[str] = []
    unusable: list[str] = []


class Fetched(msgspec.Struct):
    """A backup that was brought back."""

    name: str
    remote: str
    path: str
    bytes: int
    duration_s: float
    encrypted: bool
