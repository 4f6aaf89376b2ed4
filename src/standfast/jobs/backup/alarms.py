"""What operators are told of backups.

Invariant: `backup_failed` goes on until a backup is made that is not known to be bad.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.errors import StandfastError
from standfast.jobs.backup.report import size

_TAGS = {"component": "backup"}


def failed(error: StandfastError, age_s: float | None) -> Alert:
    """No good backup was made. `age_s` of the newest good one; None: there is none."""
    last = "there is no good one" if age_s is None else f"the newest good one is {age_s / 3600:.1f} h old"
    return Alert(
        "backup_failed",
        "error",
        f"no backup was made: {error.message}; {last}",
        tags=_TAGS,
        facts={"next_step": error.next_step, "cause": error.code},
        lasts=True,
    )


def odd(name: str, oddities: list[str]) -> Alert:
    """It is good, and something about it is not as before."""
    return Alert(
        "backup_odd",
        "warning",
        f"the backup {name} is not like the one before: {'; '.join(oddities)}",
        tags=_TAGS,
        facts={
            "next_step": f"Look whether that is meant: standfast backup show {name}, standfast stats",
            "backup": name,
        },
    )


def made_elsewhere() -> Alert:
    """By another node of the fleet, of which one a day makes it."""
    return Alert(
        "backup_made_elsewhere",
        "info",
        "another node has made a backup",
        tags=_TAGS,
        ends=("backup_failed",),
        quiet=True,
    )


def made(name: str, rows: int, bytes_: int) -> Alert:
    """It was made, and is not known to be bad."""
    return Alert(
        "backup_made",
        "info",
        f"the backup {name} was made: {rows:,} rows, {size(bytes_)}",
        tags=_TAGS,
        facts={"backup": name, "rows": rows, "bytes": bytes_},
        ends=("backup_failed",),
        quiet=True,
    )
