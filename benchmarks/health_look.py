"""Part `look` of section `health`: what one look at everything costs a service of 1,000 companies and sessions.

The companies are open in a real vault on a real PostgreSQL; the sessions are records of the pool, without sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic import SecretStr
from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.identity import made_up_creds
from standfast.authstate.company import Company
from standfast.health.document import as_wire
from standfast.health.monitor import Pace
from standfast.postgres.migrations import migrate
from standfast.postgres.store import PostgresAuthStore
from standfast.service.service import Service, ServiceOptions
from standfast.sessions.session import Session, State, Traffic
from standfast.settings import Settings

COMPANIES = 1_000
LOOKS = 100
AIM_SHARE = 0.01


async def measure(bench: Bench) -> dict[str, Any]:
    companies = [Company(f"look-{number:04}") for number in range(bench.counted(COMPANIES))]
    settings = Settings(
        state_dir=bench.new_directory("look"),
        database_url=SecretStr(bench.server.options.to_conninfo()),
        http="off",
        auto_start_monitoring=False,
    )
    async with Service(settings, ServiceOptions(gateway_only=True)) as service:
        await migrate(service.database)
        store, sessions = PostgresAuthStore(service.database), service.pool._sessions  # noqa: SLF001 - nobody else adds any
        for number, company in enumerate(companies):
            await store.install(company, made_up_creds(number), {})
            await service.vault.open(company)
            sessions[company] = Session(
                company, State.OPEN, wanted=True, traffic=Traffic(time.monotonic(), 1.0, 0.1)
            )
        looks_s, documents_s = [], []
        for _ in range(max(10, round(LOOKS * bench.share))):
            looks_s.append(_timed(service.picture.health))
            documents_s.append(_timed(lambda: msgspec.json.encode(as_wire(service.picture.health()))))
    look_s = figures.percentile(looks_s, 0.5)
    return {
        "companies": len(companies),
        "look_p50_ms": figures.significant(look_s * 1000, 3),
        "look_p99_ms": figures.significant(figures.percentile(looks_s, 0.99) * 1000, 3),
        "document_p50_ms": figures.significant(figures.percentile(documents_s, 0.5) * 1000, 3),
        "share_of_a_core": figures.significant(look_s / Pace().interval_s),
    }


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(console: Console, result: Mapping[str, Any]) -> None:
    columns = ("companies", "p50 ms", "p99 ms", "with its JSON, p50 ms", "of one core")
    names = ("companies", "look_p50_ms", "look_p99_ms", "document_p50_ms", "share_of_a_core")
    figures.show(console, "A look at everything, every 10 s", columns, [[result[name] for name in names]])
    met = "met" if result["share_of_a_core"] < AIM_SHARE else "[bold]not met[/bold]"
    console.print(f"aim less than {AIM_SHARE:.0%} of one core: {met}")
