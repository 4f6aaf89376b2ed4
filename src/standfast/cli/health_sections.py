"""The sections of `standfast health`, each as rows of a label and figures.

Invariant: a row's colour is that of what was found about it; no threshold is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.text import Text

from standfast.cli.health_figures import (
    Glyphs,
    Levels,
    ago,
    bar,
    counted,
    flowed,
    marked,
    milliseconds,
    percent,
    seconds,
    short,
    spark,
)
from standfast.cli.output import duration, size
from standfast.health.document import (
    BackupSection,
    Health,
    KeySection,
    PoolSection,
    QuerySection,
    RemoteCopies,
    SessionsSection,
    VaultSection,
)

BAR_WIDTH = 20
NARROW_BAR_WIDTH = 10
BAR_FROM = 50


@dataclass(frozen=True, slots=True)
class Pen:
    """What rows are drawn with: `now` for ages, `width` of a figure's column."""

    levels: Levels
    glyphs: Glyphs
    now: float
    width: int

    def bar(self, share: float, *codes: str) -> Text:
        """A bar in the colour of what was found under `codes`."""
        return self.bar_of(share, self.levels.of(*codes))

    def bar_of(self, share: float, level: str) -> Text:
        width = BAR_WIDTH if self.width >= BAR_FROM else NARROW_BAR_WIDTH
        return bar(share, width, level, self.glyphs)

    def mark(self, text: str, *codes: str) -> Text:
        return marked(text, self.levels.of(*codes), self.glyphs)

    def joined(self, *parts: str | Text | None) -> Text:
        """The parts that there are."""
        return flowed((part for part in parts if part is not None), self.width, self.glyphs)


@dataclass(frozen=True, slots=True)
class Row:
    """`main`: shown also where there is room for little."""

    label: str
    figures: Text
    main: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A title and its rows; without rows `missing` says why."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    missing: str = "not measured"


def sections(health: Health, pen: Pen) -> list[Section]:
    """All of them, in the order in which an operator asks."""
    drawn: list[Section] = []
    for name, title, rows, without_service in _SECTIONS:
        part = getattr(health, name)
        if part is not None:
            drawn.append(Section(name, title, list(rows(part, pen))))
        elif health.measured_by == "command" and without_service:
            drawn.append(Section(name, title, missing="only a service knows"))
        else:
            drawn.append(Section(name, title))
    return drawn


def _pool(pool: PoolSection, pen: Pen) -> Iterator[Row]:
    in_use = pen.bar(pool.usage, "pool_usage_high", "pool_exhausted")
    in_use.append_text(pen.mark(f" {percent(pool.usage)}", "pool_usage_high", "pool_exhausted"))
    yield Row(
        "in use",
        pen.joined(in_use, f"{pool.active} of {pool.max_size}, limit {percent(pool.threshold)}"),
        main=True,
    )
    waiting = pen.mark(f"{pool.waiting} waiting", "pool_exhausted")
    yield Row("now", pen.joined(f"{pool.active} active", f"{pool.idle} idle", waiting), main=True)
    if pool.samples:
        average = f"average {percent(pool.average_usage)}"
        peak = f"peak {percent(pool.peak_usage)} ({pool.peak_active} active, {pool.peak_waiting} waiting)"
        yield Row("last hour", pen.joined(average, peak))
    if pool.server is not None:
        told = f"{pool.server.used} of {pool.server.limit} connections in use, by all its clients"
        yield Row("server", pen.mark(told, "server_connections_high"))
    if pool.timeouts:
        yield Row("timeouts", Text(f"{pool.timeouts:,} since the start got no connection in time"))


def _queries(queries: QuerySection, pen: Pen) -> Iterator[Row]:
    if not queries.count:
        yield Row("latency", Text("no statement yet"), main=True)
        return
    percentiles = (
        ("P50", queries.p50_ms),
        ("P95", queries.p95_ms),
        ("P99", queries.p99_ms),
        ("max", queries.max_ms),
    )
    yield Row(
        "latency",
        pen.joined(*(f"{name} {milliseconds(value)}" for name, value in percentiles if value is not None)),
        main=True,
    )
    yield Row("average", Text(f"{milliseconds(queries.average_ms)} of the last {queries.count:,}"))
    rate = pen.bar(queries.success_rate or 0.0, "queries_failing")
    rate.append_text(pen.mark(f" {percent(queries.success_rate)}", "queries_failing"))
    yield Row("success", rate, main=True)
    since = f"{queries.total:,} since the start"
    yield Row(
        "in all", pen.joined(since, f"{queries.failed_total:,} failed", f"{queries.retries_total:,} retries")
    )
    slow = f"{queries.slow_5min:,} above {milliseconds(queries.threshold_ms)} in 5 minutes"
    yield Row("slow", pen.mark(slow, "slow_queries"))


def _keys(keys: KeySection, pen: Pen) -> Iterator[Row]:
    about = "" if keys.exact else "about "
    yield Row(
        "stored",
        Text(f"{about}{counted(keys.keys, 'key')} of {counted(keys.auth_records, 'company', 'companies')}"),
        main=True,
    )
    expired = f"{keys.expired:,} to clean up, older than {counted(keys.retention_days, 'day')}"
    yield Row("expired", pen.mark(expired, "expired_keys"), main=True)
    if keys.ages:
        drawn = spark(list(keys.ages.values()), pen.glyphs)
        yield Row(
            "written", pen.joined(drawn, *(f"{age} {short(count)}" for age, count in keys.ages.items()))
        )
    yield Row("size", pen.joined(f"tables {size(keys.table_bytes)}", f"indexes {size(keys.index_bytes)}"))
    if keys.keys_a_day is not None:
        grown = f"{_signed(short(keys.keys_a_day))} keys a day"
        more = None if keys.bytes_a_day is None else f"{_signed(size_of(keys.bytes_a_day))} a day"
        yield Row("growth", pen.joined(grown, more))
    how = "counted" if keys.exact else "carried on from a count"
    yield Row("as of", pen.joined(f"{how} {ago(keys.counted_at, pen.now)}", f"by {keys.node}"))


def _sessions(sessions: SessionsSection, pen: Pen) -> Iterator[Row]:
    standing = sessions.states.get("open", 0)
    wanted = max(sessions.wanted, 0)
    if wanted:
        share = pen.bar_of(min(1.0, standing / wanted), pen.levels.section("sessions"))
        yield Row("standing", pen.joined(share.append(f" {standing} of {wanted} open")), main=True)
    else:
        yield Row("standing", Text("no session is wanted"), main=True)
    others = {state: count for state, count in sessions.states.items() if state != "open" and count}
    if others:
        yield Row("others", Text(_counts(others)))
    traffic = {verdict: count for verdict, count in sessions.verdicts.items() if count}
    if traffic:
        yield Row("traffic", Text(_counts(traffic)), main=True)
    yield Row(
        "messages",
        pen.joined(
            f"{sessions.messages_received:,} in",
            f"{sessions.messages_sent:,} out",
            f"{sessions.waiting:,} waiting",
        ),
    )
    trouble = (
        f"{counted(sessions.reconnects, 'reconnect')}",
        f"{sessions.undecryptable:,} undecryptable",
        f"retries {sessions.retry_receipts_sent:,} out, {sessions.retry_receipts_received:,} in",
    )
    yield Row("trouble", pen.joined(*trouble))
    restarts = counted(sessions.host_restarts, "restart")
    yield Row("hosts", pen.joined(f"{sessions.hosts_ready} of {sessions.hosts} ready", restarts))


def _vault(vault: VaultSection, pen: Pen) -> Iterator[Row]:
    is_open = vault.state not in _NOT_OPEN
    if is_open:
        level = pen.levels.section("vault") if vault.state != "online" else "ok"
        away_s = vault.since_s if vault.outage_s is None else vault.outage_s
        shown = "left alone, on files" if vault.detached else vault.state
        yield Row("PostgreSQL", marked(f"{shown} for {duration(away_s)}", level, pen.glyphs), main=True)
    journal = (
        pen.joined(
            f"{counted(vault.journal_batches, 'batch', 'batches')} ({size(vault.journal_bytes)}) wait here",
            f"the oldest for {seconds(vault.lag_s)}",
        )
        if vault.journal_batches
        else Text("empty: PostgreSQL has every write")
    )
    yield Row("journal", journal, main=True)
    age = None if vault.replica_age_s is None else f"{seconds(vault.replica_age_s)} old"
    writable = None if vault.writable else marked("takes no writes", "critical", pen.glyphs)
    companies = counted(vault.replica_companies, "company", "companies")
    yield Row("replica", pen.joined(companies, size(vault.replica_bytes), age, writable))
    if is_open:
        yield Row("grace", Text(_grace(vault)))
    if vault.leases:
        yield Row("leases", Text(_counts(vault.leases)))
    if vault.quarantine:
        yield Row("quarantine", marked(counted(vault.quarantine, "entry", "entries"), "warning", pen.glyphs))
    if is_open:
        yield Row("outages", pen.joined(*_outages(vault, pen.now)))


def _grace(vault: VaultSection) -> str:
    if vault.grace_s is None:
        return "unlimited: sessions reconnect from this replica"
    if vault.grace_left_s is None:
        return f"{duration(vault.grace_s)}"
    if vault.grace_left_s <= 0:
        return "over: a session that loses its connection waits for PostgreSQL"
    return f"{duration(vault.grace_left_s)} of {duration(vault.grace_s)} left to reconnect in"


def _outages(vault: VaultSection, now: float) -> Iterator[str]:
    if vault.outages_24h:
        yield f"{vault.outages_24h} in 24 h, {duration(vault.outage_s_24h)} in all"
    else:
        yield "none in 24 h"
    if vault.outages:
        last = vault.outages[-1]
        took = duration(last.duration_s)
        yield (
            f"one goes on, {took} so far"
            if last.ended is None
            else f"the last took {took}, {ago(last.ended, now)}"
        )


def _backups(backups: BackupSection, pen: Pen) -> Iterator[Row]:
    if backups.newest_at is None:
        told = backups.error or f"none in {backups.root}" if backups.root else "none"
        yield Row("newest", pen.mark(told, *_BACKUP_CODES), main=True)
        yield from _beside_backups(backups, pen)
        return
    newest = pen.mark(ago(backups.newest_at, pen.now), *_BACKUP_CODES)
    bytes_ = None if backups.newest_bytes is None else size(backups.newest_bytes)
    bad = pen.mark(f"{len(backups.bad)} bad", "backups_bad") if backups.bad else None
    kept = f"{backups.count} {'good' if backups.catalogued else 'kept'}"
    yield Row("newest", pen.joined(newest, bytes_, kept, bad), main=True)
    proven = "never" if backups.proven_at is None else f"{ago(backups.proven_at, pen.now)}, by a restore"
    yield Row("proven", pen.mark(proven, "backup_unproven"))
    yield from _beside_backups(backups, pen)


def _beside_backups(backups: BackupSection, pen: Pen) -> Iterator[Row]:
    """What a running service knows."""
    if backups.next_at is not None:
        yield Row("next", Text(f"in {duration(max(0.0, backups.next_at - pen.now))}"))
    if backups.remotes:
        yield Row("remotes", pen.joined(*(_remote(one, pen) for one in backups.remotes)))
    changes = backups.change_log
    if changes is not None and changes.on:
        newest = (
            "no segment yet" if changes.newest_at is None else f"newest {ago(changes.newest_at, pen.now)}"
        )
        pending = f"{seconds(changes.pending_s)} pending" if changes.pending_s else None
        failing = pen.mark("cannot be written", "change_log_failing") if changes.failing else None
        yield Row("change log", pen.joined(newest, pending, failing))
    elif changes is not None:
        yield Row("change log", Text("off"))


def _remote(remote: RemoteCopies, pen: Pen) -> str | Text:
    if remote.missing is None:
        return f"{remote.name} not known"
    if not remote.missing:
        return f"{remote.name} up to date"
    how_long = "" if remote.since is None else f", for {duration(max(0.0, pen.now - remote.since))}"
    told = f"{remote.name} lacks {remote.missing}{how_long}"
    return pen.mark(told, "backup_remote_behind")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def size_of(value: float) -> str:
    """As `size`, of a change: '-12 kB'."""
    return f"-{size(round(-value))}" if value < 0 else size(round(value))


_NOT_OPEN = ("closed", "unknown")  # looked at from outside
_BACKUP_CODES = ("backup_old", "backup_unreadable", "backup_none", "backup_unproven")
_SECTIONS: tuple[tuple[str, str, Callable[..., Iterator[Row]], bool], ...] = (
    ("pool", "Connection pool", _pool, True),
    ("queries", "Query performance", _queries, False),
    ("keys", "Keys", _keys, False),
    ("sessions", "Session health", _sessions, True),
    ("vault", "Vault", _vault, False),
    ("backups", "Backups", _backups, False),
)
