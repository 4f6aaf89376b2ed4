"""What health says of the copies of backups in remotes.

Invariant: no remote is asked here: what one has is what this machine has noted after reading it back, and what the last
attempt has told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from standfast.health.document import Finding
from standfast.health.node_sections import BackupSection, RemoteCopies
from standfast.health.words import span

BEHIND_S = 26 * 3600.0


@dataclass(frozen=True, slots=True)
class Copied:
    """A good backup of this machine: good since `good_at`; when each remote had it (`held_at`), and why one did not
    take it (`failed`), both by the remote's name."""

    name: str
    made_at: float
    good_at: float
    held_at: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the last attempt to send has found in one remote. `waiting`: names of what it did not get."""

    waiting: tuple[str, ...] = ()
    error: str | None = None


def remote_copies(name: str, backups: Sequence[Copied], attempt: Attempt | None) -> RemoteCopies:
    """It lacks what is newer than all that it has. Something older counts only where the last attempt has left it
    waiting: otherwise it is none of what the remote keeps."""
    newest_held_at = max((one.made_at for one in backups if name in one.held_at), default=float("-inf"))
    waiting = () if attempt is None else attempt.waiting
    newer = [one for one in backups if one.made_at > newest_held_at]
    missing = [one for one in backups if name not in one.held_at and (one in newer or one.name in waiting)]
    noted = next((one.failed[name] for one in missing if name in one.failed), None)
    return RemoteCopies(
        name=name,
        up_to_date=not missing,
        missing=len(missing),
        since=min((one.good_at for one in missing), default=None),
        behind_since=min((one.good_at for one in newer), default=None),
        sent_at=max((one.held_at[name] for one in backups if name in one.held_at), default=None),
        error=noted if attempt is None or attempt.error is None else attempt.error,
    )


def findings(section: BackupSection, now: float) -> Iterator[Finding]:
    """Both are alerted by those who do the work: the sending of backups, and the change log."""
    for one in section.remotes:
        if one.behind_since is None or now - one.behind_since <= BEHIND_S:
            continue
        reason = "" if one.error is None else f": {one.error}"
        yield Finding(
            code="backup_remote_behind",
            section="backups",
            level="warning",
            message=f"the remote {one.name} has lacked the newest backup for {span(now - one.behind_since)}{reason}",
            recommendation="See how it is: standfast backup remotes; try it now: standfast backup push",
            subject=one.name,
        )
    if section.change_log is not None and section.change_log.failing:
        yield Finding(
            code="change_log_failing",
            section="backups",
            level="info",
            message="the change log cannot be written: a restore to a moment ends where it does",
            recommendation="See why, and what to do: standfast alerts",
        )
