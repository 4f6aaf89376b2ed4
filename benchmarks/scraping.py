"""Part `scraping` of section `health`: what one scrape of `/metrics` costs with 1,000 sessions and 60 statements.

`blocked` is for how long the event loop stood still meanwhile, at most, in one scrape: what messages wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from standfast.authstate.company import Company
from standfast.health.document import Health
from standfast.health.metrics import Metrics
from standfast.health.queries import QueryMetrics
from standfast.health.thresholds import Thresholds
from standfast.postgres.observing import Execution
from standfast.sessions.session import Session, State, Traffic

SESSIONS = 1_000
STATEMENTS = 60
AIM_S = 0.1
_ROUNDS = 200
_TICK_S = 0.001


async def measure(bench: Bench) -> dict[str, Any]:
    metrics, queries = made_up()
    took_s, blocked_s = [], []
    size = 0
    for _ in range(max(20, round(_ROUNDS * bench.share))):
        ticking = asyncio.create_task(_longest_pause_s())
        await asyncio.sleep(2 * _TICK_S)
        began = time.perf_counter()
        size = len((await metrics.scrape("", "gzip")).body)
        took_s.append(time.perf_counter() - began)
        ticking.cancel()
        blocked_s.append(await ticking)
    return {
        "sessions": SESSIONS,
        "statements": len(queries.tallies()),
        "compressed_bytes": size,
        "p50_ms": figures.significant(figures.percentile(took_s, 0.5) * 1000, 3),
        "p99_ms": figures.significant(figures.percentile(took_s, 0.99) * 1000, 3),
        "blocked_p50_ms": figures.significant(figures.percentile(blocked_s, 0.5) * 1000, 3),
        "blocked_p99_ms": figures.significant(figures.percentile(blocked_s, 0.99) * 1000, 3),
    }


def made_up() -> tuple[Metrics, QueryMetrics]:
    """Metrics over sessions and statements that are like those of a service."""
    sessions = [
        Session(
            Company(f"co-{number:04}"), State.OPEN, wanted=True, traffic=Traffic(time.monotonic(), 1.0, 0.1)
        )
        for number in range(SESSIONS)
    ]
    queries = QueryMetrics()
    for number in range(STATEMENTS * 20):
        queries.on_query(Execution(f"statement.{number % STATEMENTS}", duration_s=0.001 * (number % 40)))

    def health() -> Health:
        section = queries.section(Thresholds())
        return Health(verdict="healthy", measured_by="service", at=time.time(), findings=[], queries=section)

    return Metrics(health, lambda: [one.as_wire() for one in sessions], queries.tallies), queries


async def _longest_pause_s() -> float:
    """Until cancelled; how late the loop was at most."""
    longest_s = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            longest_s = max(longest_s, time.perf_counter() - began - _TICK_S)
    except asyncio.CancelledError:
        return longest_s


def show(console: Console, result: Mapping[str, Any]) -> None:
    columns = (
        "sessions",
        "statements",
        "p50 ms",
        "p99 ms",
        "blocked p50 ms",
        "blocked p99 ms",
        "bytes, gzip",
    )
    names = (
        "sessions",
        "statements",
        "p50_ms",
        "p99_ms",
        "blocked_p50_ms",
        "blocked_p99_ms",
        "compressed_bytes",
    )
    figures.show(console, "A scrape of /metrics", columns, [[result[name] for name in names]])
    met = "met" if result["p99_ms"] < AIM_S * 1000 else "[bold]not met[/bold]"
    console.print(f"aim less than {AIM_S * 1000:.0f} ms: {met}")
