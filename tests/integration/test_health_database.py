"""Real PostgreSQL made slow, exhausted and refusing: what is counted, found and alerted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from standfast.alert import Alert
from standfast.errors import CompanyInUse, DatabaseRejected, DatabaseUnavailable
from standfast.health import pool, queries
from standfast.health.document import Finding
from standfast.health.monitor import Monitor, Pace
from standfast.health.pool import PoolHistory
from standfast.health.queries import QueryMetrics
from standfast.health.thresholds import Thresholds
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.replication import Replication
from standfast.postgres.statistics import statistics
from standfast.postgres.store import PostgresAuthStore
from standfast.vault.opening import open_vault
from tests.integration.services import Running, running
from tests.integration.vaults import ACME, QUICK, Alerts
from tests.support import Proxy, made_up_creds, until

LIMITS = Thresholds(slow_s=0.1)
SLEEP = Statement("nap", "select pg_sleep($1)")
TOUCH = Statement("auth.touch", "update whatsapp_auth set updated_at = now() where company_id = $1")


class Watched:
    """A database with what the service watches of it."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.metrics = QueryMetrics(LIMITS)
        self.history = PoolHistory(options.max_connections, LIMITS)
        self.database = Database(options, self.metrics, self.history)
        self.alerts = Alerts()
        self._monitor = Monitor(self._look, self.alerts)

    async def _look(self) -> list[Finding]:
        return self.findings

    @property
    def findings(self) -> list[Finding]:
        section = self.history.section(self.database.statistics(), LIMITS)
        return [
            *queries.findings(self.metrics.section(LIMITS), LIMITS),
            *pool.findings(section, LIMITS),
        ]

    @property
    def codes(self) -> list[tuple[str, str]]:
        return [(one.code, one.level) for one in self.findings]

    @property
    def names(self) -> set[str]:
        return set(self.metrics.tallies())

    def alerted(self) -> list[Alert]:
        """What the monitor raises now."""
        self._monitor.judge(self.findings)
        taken, self.alerts.taken = self.alerts.taken, []
        return taken


async def test_slow_statements_warn_then_alert(database_options: DatabaseOptions) -> None:
    """One slow statement is a warning, the third an error; the alert names the statement and what to do."""
    watched = Watched(database_options)
    async with watched.database as database:
        await database.fetch(SLEEP, [0.01])
        assert watched.codes == []
        await database.fetch(SLEEP, [0.12])
        assert watched.codes == [("slow_queries", "warning")]
        await asyncio.gather(*(database.fetch(SLEEP, [0.12]) for _ in range(2)))
    assert watched.codes == [("slow_queries", "error")]
    (alert,) = watched.alerted()
    assert (alert.name, alert.level, alert.lasts) == ("slow_queries", "error", True)
    assert "nap (3 times" in alert.message
    assert "pg_stat_activity" in alert.facts["next_step"]
    section = watched.metrics.section(LIMITS)
    assert [(one.name, one.rows, one.outcome) for one in section.slow] == [("nap", 1, "ok")] * 3
    assert all(one.duration_ms >= 120 for one in section.slow)


async def test_a_statement_that_waits_for_a_lock_is_slow(database_options: DatabaseOptions) -> None:
    """Another client holds the row: the writer's statement is named, not the other's."""
    watched = Watched(database_options)
    async with watched.database as database, Database(database_options) as other:
        await PostgresAuthStore(database).create_creds(ACME, made_up_creds())
        async with other.transaction("hold", 5) as held:
            await held.execute(TOUCH.sql, [ACME])
            call = asyncio.create_task(database.fetch(TOUCH, [ACME]))
            await asyncio.sleep(0.15)
        await call
    (finding,) = watched.findings
    assert (finding.code, finding.level) == ("slow_queries", "warning")
    assert "auth.touch" in finding.message


async def test_a_pool_that_is_exhausted_is_seen_alerted_and_explained(
    database_options: DatabaseOptions,
) -> None:
    """2 connections, 8 callers: 6 wait. The finding says what holds the connections and which setting to raise."""
    options = replace(database_options, max_connections=2)
    watched = Watched(options)
    async with watched.database as database:
        holders = [asyncio.create_task(database.fetch(SLEEP, [1.3])) for _ in range(2)]
        await until(lambda: database.statistics().active == 2)
        callers = [asyncio.create_task(database.ping()) for _ in range(6)]
        await until(lambda: len(watched.findings) == 2)
        section = watched.history.section(database.statistics(), LIMITS)
        exhausted, usage = watched.findings
        alerts = watched.alerted()
        await watched.history.look_at_server(database)
        await asyncio.gather(*holders, *callers)
    assert (section.active, section.waiting, section.usage, section.max_size) == (2, 6, 1.0, 2)
    assert (section.peak_waiting, section.peak_usage, section.timeouts) == (6, 1.0, 0)
    assert (exhausted.code, exhausted.level) == ("pool_exhausted", "error")
    assert (usage.code, usage.level) == ("pool_usage_high", "warning")
    assert "longest held by 'nap', for 1." in exhausted.message
    assert "POSTGRES_MAX_CONNECTIONS (now 2)" in str(exhausted.recommendation)
    assert [(alert.name, alert.level) for alert in alerts] == [
        ("pool_exhausted", "error"),
        ("pool_usage_high", "warning"),
    ]
    assert watched.history.server is not None
    assert 2 <= watched.history.server.used <= watched.history.server.limit


async def test_a_burst_is_no_trouble(database_options: DatabaseOptions) -> None:
    """100 calls at once over 2 connections are over in no time: the peak is shown, nobody is called."""
    watched = Watched(replace(database_options, max_connections=2))
    async with watched.database as database:
        await asyncio.gather(*(database.ping() for _ in range(100)))
        assert watched.codes == []
        section = watched.history.section(database.statistics(), LIMITS)
    assert section.peak_active == 2
    assert section.peak_waiting >= 90
    assert (section.active, section.waiting) == (0, 0)


async def test_calls_without_a_connection_are_counted_once_each(database_options: DatabaseOptions) -> None:
    """Callers that got no connection in time, or gave up, are told as that, and wait no more."""
    watched = Watched(replace(database_options, max_connections=1, checkout_timeout_s=0.2))
    async with watched.database as database, database.transaction("hold", 5):
        given_up = asyncio.create_task(database.ping())
        refused = [asyncio.create_task(database.ping()) for _ in range(3)]
        await until(lambda: database.statistics().waiting == 4)
        given_up.cancel()
        outcomes = await asyncio.gather(given_up, *refused, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert all(isinstance(one, DatabaseUnavailable) for one in outcomes[1:])
        section = watched.history.section(database.statistics(), LIMITS)
        assert (section.timeouts, section.timeouts_5min, section.waiting) == (3, 3, 0)
        assert [one.name for one in section.holders] == ["hold"]
        assert ("pool_exhausted", "error") in watched.codes
    found = watched.metrics.section(LIMITS)
    assert (found.total, found.failed_total, found.cancelled_total) == (5, 3, 1)
    assert [one.outcome for one in found.failed] == ["pool_exhausted"] * 3
    assert all(one.waited_ms == pytest.approx(one.duration_ms) for one in found.failed)


async def test_every_ending_is_told_once(
    database_options: DatabaseOptions, proxy: Proxy, proxied: DatabaseOptions
) -> None:
    """Retried, refused, declined by a rule, cancelled, aborted, rolled back: each is one call with its own outcome."""
    watched = Watched(proxied)
    async with watched.database as database:
        await database.ping()
        await proxy.close()
        call = asyncio.create_task(database.ping())
        await asyncio.sleep(0.05)
        await proxy.listen()
        await call
        with pytest.raises(DatabaseRejected):
            await database.fetch(Statement("wrong", "select * from no_such_table"))
        await PostgresAuthStore(database).create_creds(ACME, made_up_creds())
        with pytest.raises(CompanyInUse):
            await Replication(database).remove(ACME, 0, 1)
        sleeping = asyncio.create_task(database.fetch(SLEEP, [3]))
        await until(lambda: database.statistics().active == 1)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
        with pytest.raises(ValueError, match="stop"):
            await aborted(database)
    told = [(one.name, one.outcome, one.retries > 0) for one in watched.metrics._last]
    assert told == [
        ("ping", "ok", False),
        ("ping", "ok", True),
        ("wrong", "schema", False),
        ("writer.begin", "ok", False),
        ("creds.create", "ok", False),
        ("company.remove", "declined", False),
        ("nap", "cancelled", False),
        ("change", "aborted", False),
    ]
    section = watched.metrics.section(LIMITS)
    assert (section.total, section.failed_total, section.cancelled_total) == (8, 1, 2)
    assert section.success_rate == pytest.approx(5 / 6)


async def aborted(database: Database) -> None:
    async with database.transaction("change", 5) as connection:
        await connection.execute("select 1")
        raise ValueError("stop")


async def test_rows_of_a_transaction_are_counted(database_options: DatabaseOptions) -> None:
    """A stream, and a transaction of several statements, tell how much they found."""
    watched = Watched(database_options)
    async with watched.database as database:
        keys = {"session": {f"{number}": b"1" for number in range(20)}}
        await PostgresAuthStore(database).install(ACME, made_up_creds(), keys)
        async for _ in Replication(database).stream(ACME):
            pass
        await statistics(database)
    rows = {name: one.rows for name, one in watched.metrics.tallies().items()}
    assert rows["company.stream"] == 21
    assert rows["statistics"] > 5


@pytest.mark.slow
async def test_an_outage_is_told_once(state: Path, proxy: Proxy, proxied: DatabaseOptions) -> None:
    """PostgreSQL hangs under many calls, which are slow, fail and fill the pool: none of that is an alert of its own,
    during the outage nor after it."""
    pace = Pace(delay_s=0.0, interval_s=0.1, clear=0.01)
    # With deadlines still shorter, calls would end before a heartbeat is late.
    quick: dict[str, Any] = {"postgres_statement_timeout_ms": 2500, "db_query_latency_threshold_ms": 1000}
    async with running(state, proxied, pace=pace, **quick) as now:
        await now.in_state("online")
        database = now.service.database
        proxy.flowing.clear()
        await now.in_state("suspect")
        calls = [asyncio.create_task(database.ping()) for _ in range(30)]
        await now.in_state("outage")
        await asyncio.gather(*calls, return_exceptions=True)
        proxy.flowing.set()
        await now.in_state("online")
        before = now.service.picture.health().pool
        assert before is not None
        await until(lambda: samples(now) > before.samples + 3)
        section = now.service.picture.health().queries
        assert section is not None
        assert section.failed_total >= 30
        assert len(now.alerts("outage_began")) == 1
        for name in ("slow_queries", "queries_failing", "pool_exhausted", "pool_usage_high"):
            assert now.alerts(name) == []


def samples(running: Running) -> int:
    """How often the service has looked at its pool."""
    pool = running.service.picture.health().pool
    return 0 if pool is None else pool.samples


@pytest.fixture
def undisturbed(postgres_server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A server whose own workers run no transactions meanwhile."""
    _set_autovacuum(postgres_server, "off")
    yield postgres_server
    _set_autovacuum(postgres_server, "on")


async def test_no_call_goes_past_the_metrics(
    undisturbed: EmbeddedServer, database_options: DatabaseOptions, tmp_path: Path
) -> None:
    """What PostgreSQL itself counts of a vault at work, heartbeats, leases and streams among it, is what the metrics
    count: one transaction for each call, and one for each connection."""
    # Without prepared statements, each of which is a transaction more.
    options = replace(database_options, transaction_pooling=True)
    watched = Watched(options)
    async with watched.database as database:
        await PostgresAuthStore(database).install(ACME, made_up_creds(), {"session": {"a": b"1"}})
        async with open_vault(tmp_path / "vault", database, QUICK) as vault:
            await vault.open(ACME)
            await vault.set_keys(ACME, {"session": {"a": b"2"}})
            await until(lambda: "changes.deliver" in watched.names and vault.replicator.is_idle)
            await statistics(database)
            with pytest.raises(DatabaseRejected):
                await database.fetch(Statement("wrong", "select * from no_such_table"))
    counted = watched.metrics.section(LIMITS).total
    assert {"node.heartbeat", "lease.acquire", "company.stream", "node.leave"} <= watched.names
    await until(lambda: _transactions(undisturbed, database_options) == counted)


def _set_autovacuum(server: EmbeddedServer, value: str) -> None:
    with psycopg.connect(server.options.to_conninfo(), autocommit=True) as connection:
        connection.execute(f"alter system set autovacuum = {value}")
        connection.execute("select pg_reload_conf()")


def _transactions(server: EmbeddedServer, options: DatabaseOptions) -> int:
    """All that PostgreSQL has run in that database, but for those that began a connection."""
    with psycopg.connect(server.options.to_conninfo(), autocommit=True) as connection:
        row = connection.execute(
            "select xact_commit + xact_rollback - sessions from pg_stat_database where datname = %s",
            [options.dbname],
        ).fetchone()
    assert row is not None
    return int(row[0])
