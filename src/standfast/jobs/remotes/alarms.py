"""What operators are told of remotes.

Invariant: `remote_failed` goes on, for each remote, until something reaches it again.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.errors import StandfastError


def failed(remote: str, error: StandfastError, waiting: int) -> Alert:
    """Copies do not get there; `waiting` good backups are not there yet."""
    wait = f"; {waiting} good backup{'s wait' if waiting > 1 else ' waits'}" if waiting else ""
    return Alert(
        "remote_failed",
        "error",
        f"copies elsewhere: {error.message}{wait}",
        tags=_tags(remote),
        facts={"next_step": error.next_step, "code": error.code, "waiting": waiting},
        lasts=True,
    )


def reached(remote: str) -> Alert:
    """It has all that it should have."""
    return Alert(
        "remote_reached",
        "info",
        f"the remote {remote} has every copy that it should have",
        tags=_tags(remote),
        ends=("remote_failed",),
        quiet=True,
    )


def _tags(remote: str) -> dict[str, str]:
    return {"component": "backup", "remote": remote}
