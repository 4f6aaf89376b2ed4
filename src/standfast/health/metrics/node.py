"""Metrics of the service itself, of PostgreSQL as it sees it, of the machine and of alerts.

Invariant: pure: what is shown is what the document says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from typing import get_args

from standfast.health.document import (
    AlertSection,
    DatabaseSection,
    Health,
    MachineSection,
    PoolSection,
    QuerySection,
    Verdict,
)
from standfast.health.metrics.families import Families
from standfast.health.queries import BUCKETS_S, Tally

_BOUNDS = (*map(str, BUCKETS_S), "+Inf")
LEVELS = ("info", "warning", "error", "critical")


def add_service(out: Families, health: Health) -> None:
    service = health.service
    if service is not None:
        facts = {"version": service.version, "python": service.python, "node": service.node}
        out.info("build", "Version of Standfast and Python, and how this node is called.", facts)
        out.gauge("monitoring", "Whether health is watched and alerts are raised.", service.monitoring)
    out.gauge("health_timestamp_seconds", "When the health shown here was measured.", health.at)


def add_verdict(out: Families, health: Health) -> None:
    out.states(
        "health_verdict", "The verdict of 'standfast health'.", "verdict", get_args(Verdict), health.verdict
    )
    found = Counter((one.code, one.section, one.level) for one in health.findings)
    out.gauges(
        "health_findings",
        "What 'standfast health' finds, by code.",
        ["code", "section", "level"],
        found.items(),
    )


def add_database(out: Families, database: DatabaseSection | None) -> None:
    if database is None:
        return
    if database.state != "unknown":
        is_up = database.state == "online"
        out.gauge("database_up", "Whether PostgreSQL answers; absent where that is not known.", is_up)
    latency_s = None if database.latency_ms is None else database.latency_ms / 1000
    out.gauge("database_latency_seconds", "Round trip of the last look at PostgreSQL.", latency_s)
    out.gauge(
        "database_clock_offset_seconds",
        "PostgreSQL's clock less this machine's.",
        database.clock_offset_s,
    )


def add_pool(out: Families, pool: PoolSection | None) -> None:
    if pool is None:
        return
    out.gauge("pool_max_connections", "POSTGRES_MAX_CONNECTIONS.", pool.max_size)
    connections = {"idle": pool.idle, "active": pool.active}
    out.counts("pool_connections", "Connections of the pool, by what they do.", "state", connections)
    out.gauge("pool_waiting", "Calls that wait for a connection.", pool.waiting)
    out.gauge("pool_usage_ratio", "Share of the pool that is in use.", pool.usage)
    out.gauge("pool_usage_peak_ratio", "Largest share in use within the last hour.", pool.peak_usage)
    out.gauge("pool_waiting_peak", "Most calls that waited at once within the last hour.", pool.peak_waiting)
    out.gauge("pool_usage_threshold_ratio", "DB_POOL_USAGE_THRESHOLD.", pool.threshold)
    out.counter("pool_timeouts", "Calls that got no connection in time.", pool.timeouts)
    out.gauge(
        "pool_timeouts_recent",
        "Those of the last 5 minutes; without those of an outage.",
        pool.timeouts_5min,
    )
    if pool.server is not None:
        out.gauge("server_connections", "Connections to PostgreSQL, of all its clients.", pool.server.used)
        out.gauge("server_max_connections", "How many it gives to ordinary accounts.", pool.server.limit)


def add_queries(out: Families, queries: QuerySection | None, tallies: Mapping[str, Tally]) -> None:
    if queries is not None:
        _add_recent(out, queries)
    durations = out.histogram(
        "query_duration_seconds", "Time that statements took, retries included.", "statement"
    )
    for name, tally in tallies.items():
        buckets = zip(_BOUNDS, map(float, accumulate(tally.buckets)), strict=True)
        durations.add_metric([name], list(buckets), tally.duration_s)
    failed = [((name,), float(tally.failed)) for name, tally in tallies.items()]
    out.counters("statement_failures", "Statements that failed, by name.", ["statement"], failed)


def _add_recent(out: Families, queries: QuerySection) -> None:
    out.counter("queries", "Statements that ended, well or not.", queries.total)
    out.counter("queries_failed", "Statements that failed, retries and all.", queries.failed_total)
    out.counter("query_retries", "Attempts beyond the first of a statement.", queries.retries_total)
    percentiles = {"50": queries.p50_ms, "95": queries.p95_ms, "99": queries.p99_ms, "100": queries.max_ms}
    out.gauges(
        "query_recent_seconds",
        "Percentiles of the last statements (at most 1,000).",
        ["percentile"],
        (((rank,), None if ms is None else ms / 1000) for rank, ms in percentiles.items()),
    )
    out.gauge(
        "query_recent_success_ratio",
        "Share of the last statements (at most 1,000) that succeeded.",
        queries.success_rate,
    )
    # A counter's increase would still hold what failed in an outage that is over.
    recent = {
        "queries_recent": ("Statements of the last 5 minutes, of the last 1,000", queries.calls_5min),
        "queries_failed_recent": ("Those of them that failed", queries.failed_5min),
        "queries_slow_recent": ("Statements of the last 5 minutes above the threshold", queries.slow_5min),
    }
    for name, (documentation, count) in recent.items():
        out.gauge(name, f"{documentation}; without those of an outage.", count)
    out.gauge(
        "query_slow_threshold_seconds",
        "DB_QUERY_LATENCY_THRESHOLD_MS, in seconds.",
        queries.threshold_ms / 1000,
    )


def add_machine(out: Families, machine: MachineSection | None) -> None:
    if machine is None:
        return
    free = [((disk.what,), disk.free_bytes) for disk in machine.disks]
    size = [((disk.what,), disk.total_bytes) for disk in machine.disks]
    out.gauges("disk_free_bytes", "Free space where this is kept.", ["what"], free)
    out.gauges("disk_size_bytes", "Size of the file system where this is kept.", ["what"], size)
    out.gauge("hosts_resident_memory_bytes", "Memory of all Node hosts.", machine.hosts_rss_bytes)
    out.gauge(
        "memory_available_bytes", "Memory that programs may still have.", machine.memory_available_bytes
    )
    out.gauge("cpu_usage_ratio", "Share of one core over the last minute.", machine.cpu_share)
    delay_s = None if machine.event_loop_delay_ms is None else machine.event_loop_delay_ms / 1000
    out.gauge("event_loop_delay_seconds", "How late the service's event loop is.", delay_s)


def add_alerts(out: Families, alerts: AlertSection | None) -> None:
    if alerts is None:
        return
    levels = dict.fromkeys(LEVELS, 0)
    for one in alerts.counts:
        levels[one.level] = levels.get(one.level, 0) + one.count
    out.counts("alerts_open", "Alerts whose trouble goes on, by level.", "level", levels)
    standing = (((one.name, one.level), one.count) for one in alerts.counts)
    out.gauges("alert_open", "Alerts whose trouble goes on, by name.", ["name", "level"], standing)
    out.gauges(
        "alert_channel_up",
        "Whether the last attempt to deliver through this channel succeeded.",
        ["channel"],
        (((one.name,), one.error is None) for one in alerts.channels),
    )
    waiting = (((one.name,), one.waiting) for one in alerts.channels)
    out.gauges("alert_channel_waiting", "What is still to be delivered.", ["channel"], waiting)
    delivered = (((one.name,), one.delivered) for one in alerts.channels)
    out.counters("alert_channel_delivered", "What was delivered.", ["channel"], delivered)
