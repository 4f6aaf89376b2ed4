"""The sections of the health document about this node: its vault, its sessions, its machine, its backups.

Invariant: that of `standfast.health.document`, from which others take them.
"""

from __future__ import annotations

import msgspec


class Outage(msgspec.Struct, kw_only=True):
    """`ended` None: it goes on. `batches`: how many were carried over after it."""

    began: float
    ended: float | None
    duration_s: float
    cause: str | None
    batches: int


class VaultSection(msgspec.Struct, kw_only=True):
    """`confirmed_s`: since PostgreSQL last confirmed this node's leases; `grace_left_s` None: unlimited.
    `lag_s`: the age of the oldest write that PostgreSQL does not have. `leases`: companies by lease (held, unclaimed,
    fenced); `fenced` and `stuck` name companies. `error`: why figures are missing or old. `outages`: the last ten, the
    newest last; those of 24 hours are summed up beside them. `detached`: the node stands on files, and PostgreSQL is
    left alone; `answered`: whether it answers meanwhile, where that is known."""

    state: str
    since_s: float
    outage_s: float | None
    cause: str | None
    next_step: str | None
    confirmed_s: float | None
    grace_s: float | None
    grace_left_s: float | None
    durability: str
    journal_batches: int
    journal_bytes: int
    lag_s: float
    replica_companies: int
    replica_bytes: int
    replica_age_s: float | None
    writable: bool
    quarantine: int
    leases: dict[str, int]
    stuck: list[str]
    fenced: list[str] = []
    error: str | None = None
    detached: bool = False
    answered: bool | None = None
    outages: list[Outage]
    outages_24h: int
    outage_s_24h: float


class SessionRow(msgspec.Struct, kw_only=True):
    """A session that does not stand as it should."""

    company: str
    state: str
    verdict: str
    since_s: float
    last_frame_age_s: float | None
    last_message_age_s: float | None
    failures: int
    reason: str | None
    next_step: str | None


class SessionsSection(msgspec.Struct, kw_only=True):
    """Counts of all sessions; `verdicts` judges by traffic (ok, quiet, down, stopped, pairing). Counters count
    from the service's start. `waiting`: messages not yet handed to WhatsApp. `troubled`: at most 50,
    of which `down` are wanted and have not been connected for longer than a reconnect takes (all of them counted)."""

    total: int
    wanted: int
    states: dict[str, int]
    verdicts: dict[str, int]
    reconnects: int
    undecryptable: int
    retry_receipts_sent: int
    retry_receipts_received: int
    messages_sent: int
    messages_received: int
    waiting: int
    hosts: int
    hosts_ready: int
    host_restarts: int
    down: int = 0
    troubled: list[SessionRow] = []
    undecryptable_10min: int = 0
    undecryptable_companies: list[str] = []
    messages_received_10min: int = 0


class RemoteCopies(msgspec.Struct, kw_only=True):
    """What a remote has of the good backups here, as far as is known here; `up_to_date` and `missing` are None where it
    is not. `since`: the oldest that it lacks has been good since then; `behind_since`: as that, of those that are newer
    than all that it has. `sent_at`: when it last got one."""

    name: str
    up_to_date: bool | None = None
    missing: int | None = None
    since: float | None = None
    behind_since: float | None = None
    sent_at: float | None = None
    error: str | None = None


class ChangeLogState(msgspec.Struct, kw_only=True):
    """`on`: the settings have it written. `segments` since the service's start, and `newest_at` is the newest of them.
    `pending_s`: the age of the oldest change that is in none yet."""

    on: bool
    segments: int = 0
    newest_at: float | None = None
    newest_age_s: float | None = None
    pending_s: float = 0.0
    failing: bool = False


class BackupSection(msgspec.Struct, kw_only=True):
    """`state`: none, ok, old or unreadable. Size and age are those of the newest good backup (`catalogued`), or, where
    none of ours are there, of the newest file in `root`; `named`: BACKUP_ROOT says so. `bad` names those that are bad,
    `unproven` counts those that nobody has looked into. `validated_at`: when the newest good one was looked into;
    `proven_at`: when a restore test last passed. Only a service knows of `remotes`, `change_log` and
    `next_at`: when the schedule makes the next."""

    state: str
    root: str
    newest_at: float | None = None
    newest_age_s: float | None = None
    newest_bytes: int | None = None
    count: int = 0
    proven_at: float | None = None
    named: bool = False
    error: str | None = None
    catalogued: bool = False
    bad: list[str] = []
    unproven: int = 0
    validated_at: float | None = None
    next_at: float | None = None
    remotes: list[RemoteCopies] = []
    change_log: ChangeLogState | None = None


class Disk(msgspec.Struct, kw_only=True):
    what: str
    path: str
    free_bytes: int
    total_bytes: int


class MachineSection(msgspec.Struct, kw_only=True):
    """`cpu_share`: of one core, over the last minute. `fds_limit`: what this process may have open. Available memory is
    that of the control group where it leaves less. `event_loop_delay_ms`: the 95th percentile of the last minute.
    `clock_jump_s`: by how much the wall clock was set within the last ten minutes."""

    disks: list[Disk]
    rss_bytes: int
    hosts_rss_bytes: int
    memory_available_bytes: int
    cpu_share: float | None
    fds: int
    fds_limit: int
    event_loop_delay_ms: float | None = None
    largest_host_bytes: int = 0
    clock_jump_s: float | None = None
