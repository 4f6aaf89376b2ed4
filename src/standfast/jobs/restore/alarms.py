"""What operators are told of restores.

Invariant: a restore that has written something is told of, whoever ran it, also where it is not finished.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from standfast.alert import Alert
from standfast.jobs.restore.plan import WRITTEN

if TYPE_CHECKING:
    from standfast.jobs.restore.restore import RestoreReport


def done(report: RestoreReport) -> Alert:
    """Nothing lasts: it is for those who did not sit at the terminal."""
    actions = Counter(one.action for one in report.companies if one.action in WRITTEN and not one.error)
    told = ", ".join(f"{action} {count:,}" for action, count in actions.most_common())
    failed = sum(one.error is not None for one in report.companies)
    step = "Nothing; what the companies were before is kept in the state directory's archive."
    return Alert(
        "restore_done",
        "info",
        f"{actions.total():,} companies were restored from {report.source} in {report.duration_s:.1f} s"
        + (f" ({told})" if told else "")
        + ("" if report.is_finished else f"; unfinished, {failed:,} failed"),
        {"component": "restore"},
        {
            "next_step": step if report.is_finished else "Go on: standfast backup restore --resume",
            "source": report.source,
            "target": report.target,
            "companies": actions.total(),
            "failed": failed,
        },
    )
