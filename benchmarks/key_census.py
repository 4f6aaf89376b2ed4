"""Part `keys` of section `health`: what it costs to know what the tables hold, 1,000 companies × 1,650 keys.

A count of all keys and the ticks between two counts are measured apart, with the processor time of PostgreSQL's
processes, and how long a read of one key takes meanwhile.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
from rich.console import Console

from benchmarks import figures, usage
from benchmarks.bench import Bench
from standfast.health.keys import KeyWatch
from standfast.health.thresholds import Thresholds
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Database, Statement

COMPANIES = 1000
KEYS = 1650
TICKS = 300
TICKS_AN_HOUR = 12
AIM_S, AIM_SHARE = 2.0, 0.01
READ_INTERVAL_S = 0.002
QUIET_S = 1.0

# Types as real companies have them, values of a key pair's size, last written at any time of 90 days.
_FILL = """
insert into whatsapp_keys (company_id, key_type, key_id, value, updated_at)
select 'keys-' || n / $2::int, key_type, n::text,
       jsonb_build_object('private', jsonb_build_object('type', 'Buffer', 'data', md5(n::text) || '0123456789ab'),
                          'public', jsonb_build_object('type', 'Buffer', 'data', md5((n + 1)::text) || '0123456789ab')),
       now() - random() * interval '90 days'
from generate_series(0, $1::int * $2::int - 1) n, lateral (
    select case when n % $2 < 812 then 'pre-key' when n % $2 < 1100 then 'session' when n % $2 < 1250 then 'sender-key'
                when n % $2 < 1300 then 'sender-key-memory' when n % $2 < 1400 then 'tctoken'
                when n % $2 < 1500 then 'device-list' when n % $2 < 1640 then 'lid-mapping' else 'identity-key' end
) t (key_type)
"""
_READ = Statement(
    "benchmark.read",
    "select value from whatsapp_keys where company_id = $1 and key_type = 'pre-key' and key_id = $2",
)


async def measure(bench: Bench) -> dict[str, Any]:
    companies = bench.counted(COMPANIES)
    counts: list[dict[str, float]] = []
    async with Database(bench.server.options) as database:
        await migrate(database)
        await _fill(bench, companies)
        watch = KeyWatch(database, str(uuid.UUID(int=1)), "benchmark", Thresholds())
        for _ in bench.alternating(["count all keys"]):
            await database.fetch(Statement("benchmark.forget", "truncate standfast_census"))
            quiet_ms = await _reads(database, asyncio.create_task(asyncio.sleep(QUIET_S)))
            before = _cpu_s(bench)
            tick = asyncio.create_task(_timed(watch))
            meanwhile_ms = await _reads(database, tick)
            counts.append(
                {
                    "took_s": await tick,
                    "cpu_s": _cpu_s(bench) - before,
                    "read_p50_ms": figures.percentile(meanwhile_ms, 0.5),
                    "read_p99_ms": figures.percentile(meanwhile_ms, 0.99),
                    "quiet_p50_ms": figures.percentile(quiet_ms, 0.5),
                    "quiet_p99_ms": figures.percentile(quiet_ms, 0.99),
                }
            )
        between = await _between(bench, watch)
        section = watch.section()
    assert section is not None, "it was counted"
    count = figures.summary(counts, list(counts[0]))
    return {
        "companies": companies,
        "keys": section.keys,
        "table_mb": round(section.table_bytes / 2**20, 1),
        "count": count,
        "between": between,
        "share_of_a_core": figures.significant(
            (count["cpu_s"] + (TICKS_AN_HOUR - 1) * between["cpu_s"]) / 3600
        ),
    }


async def _fill(bench: Bench, companies: int) -> None:
    conninfo = bench.server.options.to_conninfo()
    connect = psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, cursor_factory=psycopg.AsyncRawCursor
    )
    async with await connect as connection:
        await connection.execute("set statement_timeout = 0")
        await connection.execute(
            "insert into whatsapp_auth (company_id, creds)"
            " select 'keys-' || n, '{}' from generate_series(0, $1::int - 1) n",
            [companies],
        )
        await connection.execute(_FILL, [companies, KEYS])
        await connection.execute("vacuum analyze whatsapp_keys")


async def _timed(watch: KeyWatch) -> float:
    began = time.perf_counter()
    await watch.tick()
    return time.perf_counter() - began


async def _reads(database: Database, while_running: asyncio.Task[Any]) -> list[float]:
    """How long reads of one key took, in milliseconds, until the task was done."""
    waits_ms: list[float] = []
    while not while_running.done():
        began = time.perf_counter()
        await database.fetch(_READ, ["keys-0", str(len(waits_ms) % 800)])
        waits_ms.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(READ_INTERVAL_S)
    return waits_ms


async def _between(bench: Bench, watch: KeyWatch) -> dict[str, float]:
    """What a tick between two counts takes; `cpu_s` is this process's and PostgreSQL's."""
    before = _cpu_s(bench) + time.process_time()
    took = [await _timed(watch) for _ in range(TICKS)]
    used_s = _cpu_s(bench) + time.process_time() - before
    return {
        "took_s": figures.significant(figures.percentile(took, 0.5)),
        "cpu_s": figures.significant(used_s / TICKS),
    }


def _cpu_s(bench: Bench) -> float:
    return usage.cpu_s(usage.family(bench.server_pid))


def show(console: Console, result: Mapping[str, Any]) -> None:
    count, between = result["count"], result["between"]
    rows = [
        ["count of all keys", count["took_s"] * 1000, count["cpu_s"] * 1000],
        ["tick between two counts", between["took_s"] * 1000, between["cpu_s"] * 1000],
    ]
    title = f"{result['companies']:,} companies, {result['keys']:,} keys, {result['table_mb']:,} MB"
    figures.show(console, title, ("", "ms", "processor ms"), rows)
    reads = [
        [name, count[f"{prefix}_p50_ms"], count[f"{prefix}_p99_ms"]]
        for name, prefix in (("otherwise", "quiet"), ("while all are counted", "read"))
    ]
    figures.show(console, "A read of one key meanwhile", ("", "p50 ms", "p99 ms"), reads)
    share = result["share_of_a_core"]
    console.print(f"of one core, with a count an hour: {share * 100:.3g} %")
    aims = {
        f"a count, to {AIM_S:g} s": (1.0, figures.ratio(AIM_S, count["took_s"])),
        f"of one core, to {AIM_SHARE * 100:g} %": (1.0, figures.ratio(AIM_SHARE, share)),
    }
    figures.show_aims(console, aims)
