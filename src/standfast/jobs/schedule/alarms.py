"""The alerts of the schedule.

Invariant: `job_failed` and `job_missed` go on until the same job has run well; whoever runs it says so, also after a
restart.
"""

from __future__ import annotations

import time

from standfast.alert import Alert

_STEP = "standfast schedule run"


def _tags(job: str) -> dict[str, str]:
    return {"component": "schedule", "job": job}


def failed(job: str, message: str, next_step: str | None) -> Alert:
    return Alert(
        "job_failed",
        "error",
        f"the job {job} failed: {message}",
        _tags(job),
        {"next_step": next_step or f"See the service's log, then: {_STEP} {job}"},
        lasts=True,
    )


def missed(job: str, due_at: float, reason: str) -> Alert:
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(due_at))
    return Alert(
        "job_missed",
        "warning",
        f"the job {job} was due at {at} and has not run: {reason}",
        _tags(job),
        {
            "due_at": due_at,
            "next_step": f"It is caught up on once PostgreSQL answers: standfast schedule. At once: {_STEP} {job}",
        },
        since=due_at,
        lasts=True,
    )


def ran(job: str) -> Alert:
    return Alert(
        "job_ran",
        "info",
        f"the job {job} has run",
        _tags(job),
        ends=("job_failed", "job_missed"),
        quiet=True,
    )


def taken(job: str) -> Alert:
    """Another node has begun it."""
    return Alert(
        "job_taken",
        "info",
        f"the job {job} runs on another node",
        _tags(job),
        ends=("job_missed",),
        quiet=True,
    )
