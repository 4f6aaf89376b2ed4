"""Section `cleanup`: 100,000 keys that may go, removed through a vault in whose companies others write meanwhile.

Writes of another company come 100 a second, each when it is due, before the cleanup and while it runs. Beside it a
plain DELETE by age of the same rows, which keeps nothing, asks no vault and holds its locks to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg
from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.identity import PRE_KEY, made_up_creds
from benchmarks.jobs import context_on
from benchmarks.stored import stored
from benchmarks.vaults import vault_on
from standfast.authstate.company import Company
from standfast.jobs.cleanup.run import CleanupOptions, run_cleanup
from standfast.postgres.options import DatabaseOptions
from standfast.vault.vault import Vault

COMPANIES = 345  # of whose 1,650 keys the safe policy lets about 290 go
AIM_RATIO = 2.0
WRITER, INTERVAL_S, BEFORE_S = Company("writer"), 0.01, 4.0
_OPENINGS_AT_ONCE = 20
_DELETE = """
delete from whatsapp_keys where updated_at < now() - interval '30 days'
    and key_type in ('session', 'sender-key-memory', 'tctoken')
"""


async def measure(bench: Bench) -> dict[str, Any]:
    companies = bench.counted(COMPANIES)
    template = await stored(bench, "cleanups", companies)
    runs: dict[str, list[dict[str, float]]] = {"cleanup": [], "delete": []}
    for name in bench.alternating(runs):
        async with _cloned(template, f"cleanups_{bench.next_number()}") as options:
            measured = await (_cleaned(bench, options, companies) if name == "cleanup" else _deleted(options))
            runs[name].append(measured)
    return {
        "companies": companies,
        "cleanup": figures.summary(runs["cleanup"], list(runs["cleanup"][0])),
        "delete": figures.summary(runs["delete"], list(runs["delete"][0])),
    }


async def _cleaned(bench: Bench, options: DatabaseOptions, companies: int) -> dict[str, float]:
    async with (
        vault_on(bench.new_directory("vault"), options) as vault,
        context_on(bench, options, bench.new_directory("root")) as context,
    ):
        await _opened(vault, companies)
        before = await _written(vault, asyncio.create_task(asyncio.sleep(BEFORE_S)))
        began = time.monotonic()
        node = replace(context, node=vault.replica.node)
        running = asyncio.create_task(run_cleanup(node, vault, CleanupOptions(force=True)))
        during = await _written(vault, running)
        took_s = time.monotonic() - began
        removed = (await running).count
    before_p99, during_p99 = (figures.percentile(one, 0.99) for one in (before, during))
    return {
        "ratio": during_p99 / before_p99,
        "removed": removed,
        "took_s": took_s,
        "keys_per_s": removed / took_s,
        "before_p50_ms": figures.percentile(before, 0.5),
        "before_p99_ms": before_p99,
        "during_p50_ms": figures.percentile(during, 0.5),
        "during_p99_ms": during_p99,
        "during_max_ms": max(during),
    }


async def _opened(vault: Vault, companies: int) -> None:
    names = [Company(f"stored-{number}") for number in range(companies)]
    for begin in range(0, companies, _OPENINGS_AT_ONCE):
        await asyncio.gather(*(vault.open(company) for company in names[begin : begin + _OPENINGS_AT_ONCE]))
    await vault.open(WRITER, pair=True)
    await vault.create_creds(WRITER, made_up_creds(1))


async def _written(vault: Vault, until: asyncio.Task[Any]) -> list[float]:
    """Milliseconds from when each write was due until it was acknowledged."""
    took: list[float] = []
    due = time.perf_counter()
    while not until.done():
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await vault.set_keys(WRITER, {"session": {str(len(took) % 50): PRE_KEY}})
        took.append((time.perf_counter() - due) * 1000)
        due += INTERVAL_S
    return took


async def _deleted(options: DatabaseOptions) -> dict[str, float]:
    async with await psycopg.AsyncConnection.connect(options.to_conninfo(), autocommit=True) as connection:
        await connection.execute("set statement_timeout = 0")
        began = time.monotonic()
        removed = (await connection.execute(_DELETE)).rowcount
        took_s = time.monotonic() - began
    return {"keys_per_s": removed / took_s, "removed": removed, "took_s": took_s}


@contextlib.asynccontextmanager
async def _cloned(template: DatabaseOptions, name: str) -> AsyncIterator[DatabaseOptions]:
    """A copy of a database, for one measurement."""
    assert template.dbname is not None
    server = replace(template, dbname="postgres").to_conninfo()
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute("set statement_timeout = 0")
        await connection.execute(f"create database {name} template {template.dbname}".encode())
        try:
            yield replace(template, dbname=name)
        finally:
            await connection.execute(f"drop database {name} with (force)".encode())


def show(console: Console, result: Mapping[str, Any]) -> None:
    cleanup, delete = result["cleanup"], result["delete"]
    rows = [
        [name, one["removed"], one["took_s"], one["keys_per_s"]]
        for name, one in (("cleanup, with trash, through the vault", cleanup), ("plain DELETE", delete))
    ]
    figures.show(
        console, f"Keys of {result['companies']:,} companies", ("", "removed", "s", "keys a second"), rows
    )
    writes = [
        [name, cleanup[f"{prefix}_p50_ms"], cleanup[f"{prefix}_p99_ms"], cleanup.get(f"{prefix}_max_ms")]
        for name, prefix in (("before", "before"), ("while it runs", "during"))
    ]
    figures.show(
        console,
        "A write of another company, from when it was due",
        ("", "p50 ms", "p99 ms", "max ms"),
        writes,
    )
    console.print(
        "p99 while it runs ÷ before, round by round: " + ", ".join(f"{one:.2f}" for one in cleanup["runs"])
    )
    figures.show_aims(
        console, {f"p99 of writes, below {AIM_RATIO:g} ×": (1.0, figures.ratio(AIM_RATIO, cleanup["ratio"]))}
    )
