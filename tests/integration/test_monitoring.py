"""A running service watches itself: real trouble in PostgreSQL becomes an alert, and its end is told."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from standfast.health.document import Health
from standfast.health.monitor import Pace
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.service.foundation import cancelled, together
from standfast.service.link import Link
from tests.integration.services import ACME, Running, running
from tests.support import Proxy, made_up_creds, until

PACE = Pace(delay_s=0.0, interval_s=0.2, keys_interval_s=0.3, clear=0.01)
_SLOW = Statement("test.slow", "select pg_sleep(0.25)")
_HELD = Statement("test.held", "select pg_sleep(1)")


def codes(running: Running) -> list[str]:
    return [finding.code for finding in running.service.picture.health().findings]


async def test_slow_statements_are_a_warning_and_then_an_error(
    state: Path, tcp_options: DatabaseOptions
) -> None:
    """One slow statement warns; the third within five minutes is an error, with the statement's name and advice."""
    async with running(state, tcp_options, pace=PACE, db_query_latency_threshold_ms=100) as now:
        await now.service.database.fetch(_SLOW)
        await until(lambda: bool(now.alerts("slow_queries")), 5)
        assert now.alerts("slow_queries")[0]["level"] == "warning"
        for _ in range(2):
            await now.service.database.fetch(_SLOW)
        await until(lambda: now.alerts("slow_queries")[-1]["level"] == "error", 5)
        alert = now.alerts("slow_queries")[-1]
        assert "test.slow (3 times" in alert["message"]
        assert "DB_QUERY_LATENCY_THRESHOLD_MS" in alert["facts"]["next_step"]


async def test_an_exhausted_pool_is_alerted(state: Path, tcp_options: DatabaseOptions) -> None:
    """Eight calls at two connections: an error that names the setting, and the statement that holds them."""
    async with running(
        state, tcp_options, pace=PACE, postgres_max_connections=2, postgres_checkout_timeout_ms=5000
    ) as now:
        calls = [asyncio.create_task(now.service.database.fetch(_HELD)) for _ in range(8)]
        await until(lambda: bool(now.alerts("pool_exhausted")), 5)
        alert = now.alerts("pool_exhausted")[0]
        assert alert["level"] == "error"
        assert "POSTGRES_MAX_CONNECTIONS (now 2)" in alert["facts"]["next_step"]
        assert "test.held" in alert["message"]
        for call in calls:
            with contextlib.suppress(Exception):
                await call


async def test_aged_keys_are_alerted_with_their_number(
    state: Path, tcp_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """Keys that a cleanup may remove by age, moved back by 40 days."""
    keys = {"sender-key-memory": {f"g{n}": b'{"a":true}' for n in range(12)}}
    await store.install(ACME, made_up_creds(), keys)
    async with running(state, tcp_options, pace=PACE, expired_keys_warning=5, expired_keys_error=10) as now:
        age = "update whatsapp_keys set updated_at = now() - interval '40 days'"
        await now.service.database.fetch(Statement("test.age", age))
        await until(lambda: bool(now.alerts("expired_keys")), 10)
        assert now.alerts("expired_keys")[0]["level"] == "error"
        assert "12" in now.alerts("expired_keys")[0]["message"]


async def test_without_monitoring_health_is_still_told(state: Path, tcp_options: DatabaseOptions) -> None:
    """AUTO_START_MONITORING=false raises nothing, and answers who asks, over the gateway."""
    async with running(
        state, tcp_options, pace=PACE, auto_start_monitoring=False, db_query_latency_threshold_ms=100
    ) as now:
        for _ in range(3):
            await now.service.database.fetch(_SLOW)
        await asyncio.sleep(3 * PACE.interval_s)
        assert not now.alerts("slow_queries")
        assert "slow_queries" in codes(now)
        assert isinstance(now.service.picture.health(), Health)
        link = Link(now.service.state.gateway_socket)
        wire = msgspec.json.decode(await link.request("health.get", {"verbose": False}, 5))
        link.close()
        assert wire["verdict"] == "critical"
        assert wire["queries"]["slow"] == []


async def test_an_outage_is_one_finding(state: Path, proxied: DatabaseOptions, proxy: Proxy) -> None:
    """What follows from it is not listed beside it; its cause stays with the database's section."""
    async with running(state, proxied, pace=PACE) as now:
        await now.in_state("online")
        await proxy.close()
        await now.in_state("outage")

        def is_unavailable() -> bool:
            section = now.service.picture.health().database
            return section is not None and section.state == "unavailable"

        await until(is_unavailable, 5)
        found = {one.code for one in now.service.picture.health().findings}
        assert "outage" in found
        assert "database_unavailable" not in found


async def test_what_loses_a_cancellation_is_cancelled_again() -> None:
    """As a database pool may before Python 3.12: a service that stops must not wait for ever for it."""
    lost, ended = 0, asyncio.Event()

    async def deaf() -> None:
        nonlocal lost
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    lost += 1
                    if lost > 1:
                        raise
        finally:
            ended.set()

    running_both = asyncio.create_task(together(deaf(), asyncio.sleep(60)))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancelled(running_both)
    assert ended.is_set()
    assert running_both.cancelled()
