"""What operators are told of cleanups.

Invariant: `cleanup_failed` goes on until a run of any node has ended well.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.errors import StandfastError
from standfast.jobs.cleanup.report import CleanupReport

WORTH_A_WARNING = 1_000
_TAGS = {"component": "cleanup"}


def done(report: CleanupReport) -> Alert:
    """Keys were removed, or there were none to remove."""
    types = ", ".join(f"{name} {count:,}" for name, count in report.removed.items())
    level = "warning" if report.count > WORTH_A_WARNING else "info"
    return Alert(
        "cleanup_done",
        level,  # type: ignore[arg-type]
        f"cleanup {report.run} removed {report.count:,} keys in {report.duration_s:.1f} s"
        + (f": {types}" if types else "")
        + (f"; {report.left:,} stay for now" if report.left else ""),
        _TAGS,
        {
            "next_step": f"Nothing; to put them back: standfast cleanup undo {report.run}",
            "run": report.run,
            "policy": report.policy,
            "removed": report.count,
            "freed_bytes": report.freed_bytes,
            "keys_before": report.before.keys,
            "keys_after": report.after.keys if report.after else report.before.keys,
        },
        ends=("cleanup_failed",),
        quiet=not report.count,
    )


def failed(error: StandfastError, removed: int) -> Alert:
    """A run ended half-way; what it removed is in the trash."""
    return Alert(
        "cleanup_failed",
        "error",
        f"the cleanup ended half-way, after {removed:,} keys: {error.message}",
        _TAGS,
        {"next_step": error.next_step, "code": error.code},
        lasts=True,
    )
