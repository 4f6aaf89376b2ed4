"""Pictures of health to draw and to check: one with everything in it, one in which nothing could be measured."""

from __future__ import annotations

from standfast.health.document import (
    AlertSection,
    BackupSection,
    ChangeLogState,
    ChannelState,
    CompanyKeys,
    DatabaseSection,
    Disk,
    Finding,
    Health,
    KeySection,
    MachineSection,
    OpenAlert,
    Outage,
    PoolSample,
    PoolSection,
    QueryRecord,
    QuerySection,
    RemoteCopies,
    ServiceSection,
    SessionRow,
    SessionsSection,
    StatementSummary,
    VaultSection,
)
from standfast.health.verdict import verdict_of

NOW = 1_800_000_000.0


def empty(*findings: Finding) -> Health:
    """Nothing measured."""
    return Health(verdict=verdict_of(findings), measured_by="command", at=NOW - 3, findings=list(findings))


def full() -> Health:
    """PostgreSQL away, the pool exhausted, something to show in every section."""
    findings = [
        Finding(
            code="outage",
            section="vault",
            level="critical",
            message="PostgreSQL has been away for 3 m 20 s: nothing accepts connections at db.example:5432",
            recommendation="Start PostgreSQL, or look at the network between: pg_isready -h db.example",
        ),
        Finding(
            code="pool_exhausted",
            section="pool",
            level="error",
            message="8 calls wait for one of 10 connections",
            recommendation="Raise POSTGRES_MAX_CONNECTIONS above 10, and start the service again",
        ),
        Finding(
            code="expired_keys",
            section="keys",
            level="warning",
            message="139 keys were not written for 30 days",
            recommendation="standfast cleanup",
        ),
        Finding(code="backup_none", section="backups", level="info", message="there is no backup yet"),
    ]
    return Health(
        verdict="critical",
        measured_by="service",
        at=NOW - 3,
        findings=findings,
        service=ServiceSection(
            version="0.1.0", python="3.11.7", pid=4711, uptime_s=7_500, node="alpha", monitoring=True
        ),
        database=DatabaseSection(
            state="unavailable",
            where="db.example:5432, database wa",
            embedded=False,
            server="PostgreSQL 18.4",
            latency_ms=0.42,
            clock_offset_s=1.2,
        ),
        pool=_pool(),
        queries=_queries(),
        keys=_keys(),
        vault=_vault(),
        sessions=_sessions(),
        backups=BackupSection(
            state="ok",
            root="/var/backups",
            newest_at=NOW - 10_000,
            newest_age_s=10_000,
            newest_bytes=123_000_000,
            count=7,
            proven_at=NOW - 9_000,
            next_at=NOW + 64_800,
            remotes=[
                RemoteCopies(name="s3", up_to_date=True, missing=0),
                RemoteCopies(name="nas", up_to_date=False, missing=2, since=NOW - 18_000),
            ],
            change_log=ChangeLogState(on=True, segments=9, newest_at=NOW - 4, pending_s=1.5),
        ),
        machine=MachineSection(
            disks=[Disk(what="state", path="/x", free_bytes=120 * 10**9, total_bytes=200 * 10**9)],
            rss_bytes=140_000_000,
            hosts_rss_bytes=240_000_000,
            memory_available_bytes=4 * 10**9,
            cpu_share=0.03,
            fds=84,
            fds_limit=1_024,
            event_loop_delay_ms=1.2,
        ),
        alerts=AlertSection(
            open=[
                OpenAlert(
                    name="outage_began",
                    level="error",
                    message="PostgreSQL is away",
                    since=NOW - 200,
                    count=1,
                )
            ],
            channels=[
                ChannelState(name="telegram", waiting=0, delivered=4),
                ChannelState(name="sentry", waiting=3, delivered=0, error="429"),
            ],
        ),
    )


def _pool() -> PoolSection:
    recent = [
        PoolSample(at=NOW - 10 * ago, size=10, idle=ago, active=10 - ago, waiting=0, usage=(10 - ago) / 10)
        for ago in range(9, -1, -1)
    ]
    return PoolSection(
        max_size=10,
        size=10,
        idle=0,
        active=10,
        waiting=8,
        usage=1.0,
        average_usage=0.31,
        peak_usage=1.0,
        peak_active=10,
        peak_waiting=9,
        timeouts=12,
        threshold=0.8,
        samples=360,
        recent=recent,
    )


def _queries() -> QuerySection:
    slow = QueryRecord(
        at=NOW - 4, name="replication.apply", duration_ms=1_230, rows=50, outcome="ok", retries=0
    )
    failed = QueryRecord(
        at=NOW - 200, name="lease.renew", duration_ms=5_000, rows=0, outcome="timeout", retries=3
    )
    return QuerySection(
        count=1_000,
        total=123_456,
        failed_total=42,
        retries_total=7,
        success_rate=0.9996,
        average_ms=2.34,
        p50_ms=0.8,
        p95_ms=9.1,
        p99_ms=48.0,
        max_ms=1_230.0,
        threshold_ms=500,
        slow_5min=2,
        slow=[slow],
        failed=[failed],
        statements=[StatementSummary(name="lease.renew", count=800, average_ms=0.7, p95_ms=1.2, failed=1)],
    )


def _keys() -> KeySection:
    return KeySection(
        auth_records=1_000,
        keys=1_650_000,
        expired=139,
        retention_days=30,
        exact=False,
        counted_at=NOW - 210,
        node="alpha",
        ages={"1 d": 120_000, "7 d": 500_000, "14 d": 430_000, "30 d": 599_861, "older": 139},
        types={"pre-key": 1_500_000, "session": 120_000, "sender-key": 30_000},
        companies=[CompanyKeys(company="acme", keys=1_800, expired=12)],
        table_bytes=620_000_000,
        index_bytes=240_000_000,
        keys_a_day=1_240,
        bytes_a_day=-3_400_000,
    )


def _vault() -> VaultSection:
    return VaultSection(
        state="outage",
        since_s=200,
        outage_s=200,
        cause="nothing accepts connections",
        next_step="Start PostgreSQL.",
        confirmed_s=205,
        grace_s=300,
        grace_left_s=95,
        durability="local",
        journal_batches=120,
        journal_bytes=34_000,
        lag_s=199,
        replica_companies=12,
        replica_bytes=12_000_000,
        replica_age_s=205,
        writable=True,
        quarantine=1,
        leases={"held": 12},
        stuck=[],
        outages=[
            Outage(began=NOW - 90_000, ended=NOW - 89_000, duration_s=1_000, cause="timeout", batches=99),
            Outage(began=NOW - 200, ended=None, duration_s=200, cause="refused", batches=0),
        ],
        outages_24h=1,
        outage_s_24h=200,
    )


def _sessions() -> SessionsSection:
    troubled = SessionRow(
        company="bolt",
        state="connecting",
        verdict="down",
        since_s=190,
        last_frame_age_s=None,
        last_message_age_s=400,
        failures=4,
        reason="connection lost",
        next_step="wait",
    )
    return SessionsSection(
        total=14,
        wanted=12,
        states={"open": 11, "connecting": 1, "closed": 2},
        verdicts={"ok": 10, "quiet": 1, "down": 1, "stopped": 2},
        reconnects=3,
        undecryptable=1,
        retry_receipts_sent=2,
        retry_receipts_received=0,
        messages_sent=12_044,
        messages_received=30_991,
        waiting=4,
        hosts=1,
        hosts_ready=1,
        host_restarts=0,
        troubled=[troubled],
    )
