"""What metrics are made of: a health document with every section filled, sessions, and counted statements."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from standfast.health.document import AlertCount, Finding, Health, ServerConnections
from standfast.health.metrics.jobs import JobFigures, LastRun
from standfast.health.queries import QueryMetrics, Tally
from standfast.postgres.observing import Execution
from tests.health_pictures import full

STATES = ("open", "open", "open", "closed", "logged_out")


def tallies() -> dict[str, Tally]:
    """Of two statements, as they were counted."""
    metrics = QueryMetrics()
    for name, duration_s, outcome in (
        ("journal.push", 0.003, "ok"),
        ("journal.push", 0.04, "refused"),
        ("auth.load", 20.0, "ok"),
    ):
        metrics.on_query(Execution(name, duration_s=duration_s, outcome=outcome))
    return dict(metrics.tallies())


def job_figures() -> JobFigures:
    """A backup that failed last, a cleanup that removed keys."""
    return JobFigures(
        runs={("backup", "done"): 3, ("backup", "failed"): 1},
        last={"backup": LastRun("failed", 1_763_800_000.0, 2.5)},
        cleanups={"done": 2},
        cleanup_s=1.25,
        removed={"session": 40},
    )


def session_wires(count: int) -> list[dict[str, Any]]:
    """Sessions co-0000 … in all conditions."""
    states = itertools.cycle(STATES)
    return [_wire(number, state) for number, state in zip(range(count), states, strict=False)]


def _wire(number: int, state: str) -> dict[str, Any]:
    return {
        "company": f"co-{number:04}",
        "state": state,
        "wanted": state != "logged_out",
        "failures": number % 3,
        "reconnects": 2,
        "messages_sent": 10,
        "messages_received": 20,
        "undecryptable": 1,
        "retry_receipts_sent": 3,
        "retry_receipts_received": 4,
        "last_message_age_s": float(number),
        "last_frame_age_s": 1.5 if state == "open" else None,
        "ping_ms": 80.0,
    }


def full_health(**changed: Any) -> Health:
    """All is known, and not all is well; `changed` sections take the place of others."""
    health = full()
    assert health.pool is not None
    assert health.alerts is not None
    health.pool.server = ServerConnections(used=12, limit=97)
    health.alerts.counts = [
        AlertCount(name="fenced", level="critical", count=700),
        AlertCount(name="slow_queries", level="warning", count=1),
    ]
    health.findings += [
        Finding(code="session_down", section="sessions", level="warning", message="down", company=company)
        for company in ("co-0003", "co-0008")
    ]
    return msgspec.structs.replace(health, **changed)
