"""Metrics of the jobs that this service runs: how often, with what outcome, and what cleanups removed.

Invariant: counters begin with the service and never fall; a job that has not ended since has no last run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from standfast.health.metrics.families import Families

OUTCOMES = ("done", "failed", "skipped")


@dataclass(frozen=True, slots=True)
class LastRun:
    """`ended_at` in seconds since 1970."""

    outcome: str
    ended_at: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class JobFigures:
    """`runs` by job and outcome; `cleanups` by outcome, `removed` by type of key: of the schedule and of commands."""

    runs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    last: Mapping[str, LastRun] = field(default_factory=dict)
    cleanups: Mapping[str, int] = field(default_factory=dict)
    cleanup_s: float = 0.0
    removed: Mapping[str, int] = field(default_factory=dict)


def add_jobs(out: Families, jobs: JobFigures) -> None:
    out.counters("job_runs", "Runs of jobs of the schedule here.", ["job", "outcome"], jobs.runs.items())
    outcomes = (
        ((job, outcome), int(one.outcome == outcome))
        for job, one in jobs.last.items()
        for outcome in OUTCOMES
    )
    out.gauges("job_last_outcome", "1 for the outcome of the last run here.", ["job", "outcome"], outcomes)
    out.gauges(
        "job_last_run_timestamp_seconds",
        "When the last run here ended.",
        ["job"],
        (((job,), one.ended_at) for job, one in jobs.last.items()),
    )
    out.gauges(
        "job_last_run_duration_seconds",
        "How long it took.",
        ["job"],
        (((job,), one.duration_s) for job, one in jobs.last.items()),
    )
    cleanups = (((outcome,), jobs.cleanups.get(outcome, 0)) for outcome in ("done", "failed"))
    out.counters("cleanup_runs", "Cleanups of this service, also those of commands.", ["outcome"], cleanups)
    out.counter("cleanup_duration_seconds", "How long they took together.", jobs.cleanup_s)
    removed = (((key_type,), count) for key_type, count in jobs.removed.items())
    out.counters("cleanup_removed_keys", "Keys that they removed, by type.", ["type"], removed)
