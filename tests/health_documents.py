"""A health document with every section filled, and sessions to go with it."""

from __future__ import annotations

import itertools
from typing import Any

from standfast.health.document import (
    AlertCount,
    AlertSection,
    BackupSection,
    ChannelState,
    CompanyKeys,
    DatabaseSection,
    Disk,
    Finding,
    Health,
    KeySection,
    MachineSection,
    OpenAlert,
    PoolSection,
    QuerySection,
    ServerConnections,
    ServiceSection,
    SessionsSection,
    VaultSection,
)
from standfast.health.queries import QueryMetrics, Tally
from standfast.postgres.observing import Execution

NOW = 1_790_000_000.0
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
    """All is known, and not all is well."""
    sections: dict[str, Any] = {
        "service": ServiceSection(
            version="0.1.0", python="3.13.1", pid=7, uptime_s=3_600.0, node="first", monitoring=True
        ),
        "database": DatabaseSection(
            state="online", where="db:5432/bots", embedded=False, latency_ms=1.25, clock_offset_s=-0.002
        ),
        "pool": _pool(),
        "queries": _queries(),
        "keys": _keys(),
        "vault": _vault(),
        "sessions": _sessions(),
        "backups": BackupSection(
            state="ok", root="/backups", newest_age_s=7_200.0, newest_bytes=4_096, count=3, proven_at=NOW - 60
        ),
        "machine": _machine(),
        "alerts": _alerts(),
    }
    findings = [
        Finding(code="slow_queries", section="queries", level="warning", message="one was slow"),
        Finding(code="session_down", section="sessions", level="warning", message="down", company="co-0003"),
        Finding(code="session_down", section="sessions", level="warning", message="down", company="co-0008"),
    ]
    return Health(
        verdict="warning", measured_by="service", at=NOW, findings=findings, **{**sections, **changed}
    )


def _pool() -> PoolSection:
    return PoolSection(
        max_size=10,
        size=4,
        idle=3,
        active=1,
        waiting=0,
        usage=0.1,
        average_usage=0.2,
        peak_usage=0.9,
        peak_active=9,
        peak_waiting=2,
        timeouts=1,
        threshold=0.8,
        samples=360,
        server=ServerConnections(used=12, limit=97),
    )


def _queries() -> QuerySection:
    return QuerySection(
        count=1_000,
        total=5_000,
        failed_total=7,
        retries_total=9,
        success_rate=0.999,
        average_ms=2.0,
        p50_ms=1.0,
        p95_ms=5.0,
        p99_ms=50.0,
        max_ms=700.0,
        threshold_ms=500.0,
        slow_5min=1,
    )


def _keys() -> KeySection:
    return KeySection(
        auth_records=2,
        keys=3_300,
        expired=120,
        retention_days=30,
        exact=True,
        counted_at=NOW - 300,
        node="first",
        ages={"<1d": 3_000, "1-7d": 100, "7-14d": 50, "14-30d": 30, ">30d": 120},
        types={"pre-key": 1_600, "session": 1_500, "sender-key": 200},
        companies=[CompanyKeys(company="co-0000", keys=1_650, expired=60)],
        table_bytes=2**20,
        index_bytes=2**19,
        keys_a_day=40.0,
        bytes_a_day=9_000.0,
    )


def _vault() -> VaultSection:
    return VaultSection(
        state="online",
        since_s=60.0,
        outage_s=None,
        cause=None,
        next_step=None,
        confirmed_s=0.6,
        grace_s=300.0,
        grace_left_s=299.4,
        durability="local",
        journal_batches=3,
        journal_bytes=2_048,
        lag_s=0.4,
        replica_companies=5,
        replica_bytes=10**6,
        replica_age_s=0.6,
        writable=True,
        quarantine=1,
        leases={"held": 4, "unclaimed": 1, "fenced": 0},
        stuck=["co-0004"],
        outages=[],
        outages_24h=1,
        outage_s_24h=42.0,
    )


def _sessions() -> SessionsSection:
    return SessionsSection(
        total=5,
        wanted=4,
        states={"open": 3, "closed": 1, "logged_out": 1},
        verdicts={"ok": 3, "down": 1, "stopped": 1},
        reconnects=10,
        undecryptable=5,
        retry_receipts_sent=15,
        retry_receipts_received=20,
        messages_sent=50,
        messages_received=100,
        waiting=2,
        hosts=1,
        hosts_ready=1,
        host_restarts=0,
    )


def _machine() -> MachineSection:
    return MachineSection(
        disks=[Disk(what="state", path="/var/lib/standfast", free_bytes=10**10, total_bytes=10**11)],
        rss_bytes=10**8,
        hosts_rss_bytes=2 * 10**8,
        memory_available_bytes=10**9,
        cpu_share=0.03,
        fds=40,
        fds_limit=1_024,
        event_loop_delay_ms=0.5,
    )


def _alerts() -> AlertSection:
    return AlertSection(
        open=[
            OpenAlert(
                name="fenced", level="critical", message="m", since=NOW - 9, count=1, company="co-0001"
            ),
            OpenAlert(name="slow_queries", level="warning", message="m", since=NOW - 9, count=4),
        ],
        counts=[
            AlertCount(name="fenced", level="critical", count=700),
            AlertCount(name="slow_queries", level="warning", count=1),
        ],
        channels=[
            ChannelState(name="sentry", waiting=0, delivered=12, delivered_at=NOW - 9),
            ChannelState(name="telegram", waiting=2, delivered=1, error="unreachable"),
        ],
    )
