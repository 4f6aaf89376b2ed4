"""What operators are told of backups that were looked into.

Invariant: what is said of a backup that is bad goes on until it is found good or is gone.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.errors import BackupDamaged, StandfastError
from standfast.jobs.backup.manifest import RestoreTest, Validation

_TAGS = {"component": "backup"}
_TEST = "standfast backup restore-test"


def bad(name: str, found: Validation) -> Alert:
    """It was looked into twice, and cannot be relied on."""
    return Alert(
        "backup_bad",
        "error",
        f"the backup {name} is bad: {found.message}",
        tags={**_TAGS, "backup": name},
        facts={
            "next_step": "Make another: standfast backup run. A copy elsewhere may be whole: "
            f"standfast backup fetch {name}",
            "sealed": found.sealed,
        },
        lasts=True,
    )


def good(name: str) -> Alert:
    """It was found good."""
    return Alert(
        "backup_validated",
        "info",
        f"the backup {name} is good",
        tags={**_TAGS, "backup": name},
        ends=("backup_bad",),
        quiet=True,
    )


def gone(name: str) -> Alert:
    """There is no such backup any more."""
    return Alert(
        "backup_removed",
        "info",
        f"the backup {name} was removed",
        tags={**_TAGS, "backup": name},
        ends=("backup_bad",),
        quiet=True,
    )


def not_opened(name: str) -> Alert:
    """This machine has an age identity, and it is not one of those that the backup was made for."""
    return Alert(
        "backup_not_opened",
        "warning",
        f"no identity in BACKUP_IDENTITY_FILE opens the backup {name}: only its checksum was checked",
        tags=_TAGS,
        facts={
            "next_step": "Compare BACKUP_RECIPIENTS with 'age-keygen -y' of the identity file; without the right "
            "identity nobody can restore it.",
            "backup": name,
        },
    )


def tested(name: str, test: RestoreTest) -> Alert:
    """It was restored and works."""
    return Alert(
        "restore_test_done",
        "info",
        f"the backup {name} was restored and works: {test.message}",
        tags=_TAGS,
        facts={
            "backup": name,
            "rto_s": round(test.rto_s, 1),
            "rpo_s": round(test.rpo_s, 1),
            "rows": test.rows,
        },
        ends=("restore_test_failed",),
    )


def test_failed(name: str, reason: str, error: StandfastError) -> Alert:
    """It could not be restored, or what came out is not what went in."""
    step = error.next_step
    if step == BackupDamaged.default_next_step:
        step = f"Make another and test that: standfast backup run; {_TEST}"
    return Alert(
        "restore_test_failed",
        "error",
        f"the restore test of the backup {name} failed: {reason}",
        tags=_TAGS,
        facts={"next_step": step, "backup": name},
        lasts=True,
    )


def test_impossible(name: str) -> Alert:
    """The identity that would open it is not on this machine."""
    return Alert(
        "restore_test_not_possible",
        "warning",
        f"the backup {name} cannot be tested here: it is encrypted, and this machine has no identity",
        tags=_TAGS,
        facts={"next_step": f"Where the identity is: {_TEST} {name}", "backup": name},
    )
