"""What the schedule does with the change log once a day.

Invariant: it ends with an alert about what is damaged, or with one that nothing is.
"""

from __future__ import annotations

import msgspec

from standfast.errors import JobRunning
from standfast.jobs.changelog import alarms
from standfast.jobs.changelog.compact import Compacted, compact
from standfast.jobs.changelog.verify import Verified, verify
from standfast.jobs.context import JobContext

_SHARE = 0.25


class Maintained(msgspec.Struct):
    verified: Verified
    compacted: Compacted

    def __str__(self) -> str:
        found, done = self.verified, self.compacted
        return (
            f"{found.segments:,} segments, {len(found.problems)} problems, {len(found.gaps)} gaps; "
            f"{done.packed:,} packed, {done.dropped:,} dropped"
        )


async def maintain(context: JobContext) -> Maintained:
    """Verify every segment, pack what is older than an hour, drop what is too old."""
    context.progress.step("verify the change log")
    verified = await verify(context.settings, share=_SHARE)
    if verified.problems:
        context.alerts.take(alarms.damaged([str(problem) for problem in verified.problems]))
    else:
        context.alerts.take(alarms.sound())
    context.progress.step("compact the change log")
    try:
        compacted = await compact(context.settings)
    except JobRunning as error:  # nodes that share a directory tidy it in turns
        compacted = Compacted(left=[error.message])
    return Maintained(verified, compacted)
