"""`Health`: the picture that `standfast health`, the HTTP API and Prometheus show; the schema of `health --json`.

Invariant: fields are added and never change their meaning within one `SCHEMA`. Times are seconds since 1970, durations
carry their unit in their name, shares go from 0 to 1. None: not known. Nothing here is secret: company ids, counts,
ages, names of statements.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from standfast.health.node_sections import (
    BackupSection,
    ChangeLogState,
    Disk,
    MachineSection,
    Outage,
    RemoteCopies,
    SessionRow,
    SessionsSection,
    VaultSection,
)

__all__ = [
    "SCHEMA",
    "AlertCount",
    "AlertSection",
    "BackupSection",
    "ChangeLogState",
    "ChannelState",
    "CompanyKeys",
    "DatabaseSection",
    "Disk",
    "Finding",
    "FindingLevel",
    "Health",
    "KeySection",
    "MachineSection",
    "OpenAlert",
    "Outage",
    "PoolHolder",
    "PoolSample",
    "PoolSection",
    "QueryRecord",
    "QuerySection",
    "RemoteCopies",
    "SectionName",
    "ServerConnections",
    "ServiceSection",
    "SessionRow",
    "SessionsSection",
    "SlowStatement",
    "StatementSummary",
    "VaultSection",
    "Verdict",
    "as_wire",
    "from_wire",
]
SCHEMA = "standfast.health/1"

Verdict = Literal["healthy", "warning", "critical", "unknown"]
FindingLevel = Literal["info", "warning", "error", "critical", "unknown"]
SectionName = Literal[
    "database", "pool", "queries", "keys", "vault", "sessions", "backups", "machine", "alerts"
]


class Finding(msgspec.Struct, kw_only=True):
    """Something that an operator should know. `code` is stable; `recommendation` says what to do, with the command or
    the setting. `company` and `subject` say whom it concerns, where not the whole node."""

    code: str
    section: SectionName
    level: FindingLevel
    message: str
    recommendation: str | None = None
    company: str | None = None
    subject: str | None = None


class ServiceSection(msgspec.Struct, kw_only=True):
    """The process that measured."""

    version: str
    python: str
    pid: int
    uptime_s: float
    node: str
    monitoring: bool


class DatabaseSection(msgspec.Struct, kw_only=True):
    """`state`: online, unavailable or unknown. `clock_offset_s`: PostgreSQL's clock less this machine's."""

    state: str
    where: str
    embedded: bool
    server: str | None = None
    latency_ms: float | None = None
    clock_offset_s: float | None = None
    error: str | None = None
    next_step: str | None = None


class PoolSample(msgspec.Struct, kw_only=True):
    """How the pool was at that moment; the average and the peaks are those of the time since the sample before."""

    at: float
    size: int
    idle: int
    active: int
    waiting: int
    usage: float
    average_usage: float = 0.0
    peak_active: int = 0
    peak_waiting: int = 0


class PoolHolder(msgspec.Struct, kw_only=True):
    """A connection in use: which statement or transaction has it, and for how long."""

    name: str
    held_s: float


class ServerConnections(msgspec.Struct, kw_only=True):
    """Of the PostgreSQL server as a whole, whoever uses it: what is in use, and how many ordinary accounts may have."""

    used: int
    limit: int


class PoolSection(msgspec.Struct, kw_only=True):
    """`usage` is the share of `max_size` that is in use. Average and peaks are those of the samples kept (1 hour), of
    every moment in it; `timeouts`: checkouts that got no connection in time since the start, `timeouts_5min` within
    5 minutes. `busy_s`: for how long of the last 10 to 20 s usage was above `threshold`, `crowded_s`: for how long all
    were in use and more than 5 calls waited; both, and `timeouts_5min`, without what happened in an outage.
    `holders`: the connections in use, the longest held first, at most 10. `recent`: the last 10 samples, the newest
    last."""

    max_size: int
    size: int
    idle: int
    active: int
    waiting: int
    usage: float
    average_usage: float
    peak_usage: float
    peak_active: int
    peak_waiting: int
    timeouts: int
    threshold: float
    samples: int
    busy_s: float = 0.0
    crowded_s: float = 0.0
    timeouts_5min: int = 0
    holders: list[PoolHolder] = []
    server: ServerConnections | None = None
    recent: list[PoolSample] = []


class QueryRecord(msgspec.Struct, kw_only=True):
    """One call that ended. `outcome` is "ok", "declined" (a rule in the database said no), "cancelled" or "aborted" (by
    its caller), or the cause of its failure. `waited_ms` is the part of it in which it had no connection."""

    at: float
    name: str
    duration_ms: float
    rows: int
    outcome: str
    retries: int
    waited_ms: float = 0.0


class StatementSummary(msgspec.Struct, kw_only=True):
    """Of the last 1,000 calls, those of one statement or transaction. `average_waited_ms` of the average went by in
    waiting for a connection."""

    name: str
    count: int
    average_ms: float
    p95_ms: float
    failed: int
    average_waited_ms: float = 0.0


class SlowStatement(msgspec.Struct, kw_only=True):
    """A statement that was slow within 5 minutes: how often, and how long the longest took."""

    name: str
    count: int
    max_ms: float


class QuerySection(msgspec.Struct, kw_only=True):
    """Of the last `count` calls (at most 1,000); the totals since the start. Percentiles are by nearest rank.
    `success_rate` leaves out what its caller gave up. Slow: more than `threshold_ms` on its connection. `slow` and
    `failed` hold the last 10 of each, the newest last; `slow_5min` counts the slow ones of 5 minutes, `failed_5min`
    those of the last 1,000 calls that failed in these 5 minutes, by cause in `causes_5min`, out of `calls_5min`: all
    without what happened in an outage. `statements`: the 10 that took most time."""

    count: int
    total: int
    failed_total: int
    retries_total: int
    success_rate: float | None
    average_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    threshold_ms: float
    slow_5min: int
    cancelled_total: int = 0
    calls_5min: int = 0
    failed_5min: int = 0
    causes_5min: dict[str, int] = {}
    slow_statements: list[SlowStatement] = []
    slow: list[QueryRecord] = []
    failed: list[QueryRecord] = []
    statements: list[StatementSummary] = []


class CompanyKeys(msgspec.Struct, kw_only=True):
    company: str
    keys: int
    expired: int


class KeySection(msgspec.Struct, kw_only=True):
    """What the tables hold, as of `measured_at` (None: of `counted_at`). `exact`: each key was counted then; else
    `auth_records` and sizes are of then, `keys` is estimated, `expired` is no less than there are, and the rest is as
    it was at `counted_at`.

    `expired`: keys of those types of which age alone is a reason to remove one, not written for longer than
    `retention_days`; by type in `expired_types`. `ages` has five buckets by the last write of all keys, `types` the
    count by key type, `companies` the ten with the most keys. `own`: how many keys are of Standfast's own types.
    `share`: what part of the table was read to count. Growth is that of a day by the last 24 hours, None until an
    hour is known. `node` measured."""

    auth_records: int
    keys: int
    expired: int
    retention_days: int
    exact: bool
    counted_at: float
    node: str
    ages: dict[str, int]
    types: dict[str, int]
    companies: list[CompanyKeys]
    table_bytes: int
    index_bytes: int
    keys_a_day: float | None = None
    bytes_a_day: float | None = None
    measured_at: float | None = None
    expired_types: dict[str, int] = {}
    own: int = 0
    share: float = 1.0


class OpenAlert(msgspec.Struct, kw_only=True):
    """An alert whose trouble goes on. `count`: how often it was reported since `since`."""

    name: str
    level: str
    message: str
    since: float
    count: int
    company: str | None = None
    next_step: str | None = None


class ChannelState(msgspec.Struct, kw_only=True):
    """`waiting`: what is still to be delivered. `error`: why the last attempt failed, None after a success."""

    name: str
    waiting: int
    delivered: int
    delivered_at: float | None = None
    error: str | None = None


class AlertCount(msgspec.Struct, kw_only=True):
    """How many alerts of that name and level are open."""

    name: str
    level: str
    count: int


class AlertSection(msgspec.Struct, kw_only=True):
    """`open`: the newest, at most 50. `counts`: of all that are open."""

    open: list[OpenAlert]
    counts: list[AlertCount] = []
    channels: list[ChannelState]


class Health(msgspec.Struct, kw_only=True):
    """The whole. `measured_by`: "service", or "command" where none answered. A section is None where it could not be
    measured; `findings` says why."""

    schema: str = SCHEMA
    verdict: Verdict
    measured_by: Literal["service", "command"]
    at: float
    findings: list[Finding]
    service: ServiceSection | None = None
    database: DatabaseSection | None = None
    pool: PoolSection | None = None
    queries: QuerySection | None = None
    keys: KeySection | None = None
    vault: VaultSection | None = None
    sessions: SessionsSection | None = None
    backups: BackupSection | None = None
    machine: MachineSection | None = None
    alerts: AlertSection | None = None


def as_wire(health: Health) -> dict[str, Any]:
    """JSON-able."""
    wire: dict[str, Any] = msgspec.to_builtins(health)
    return wire


def from_wire(wire: Any) -> Health:
    """Raises `msgspec.ValidationError` where it is no such document; fields that are not known are passed over."""
    return msgspec.convert(wire, Health)
