"""Replays a trace in Python against one store. Options: `{"store", "trace", "directory", "conninfo", "companies",
"budget_s"}`; the store is `sqlite` (bare), `postgres` (write-through) or `vault`.

Invariant: only operations that were acknowledged are counted. A replay goes over the trace until its time is over, so
that slow and fast stores are measured for equally long.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.child import pause, tell, told_options
from benchmarks.figures import percentile
from benchmarks.identity import made_up_creds
from benchmarks.sqlite_keys import SqliteKeys
from benchmarks.trace import Get, Trace
from benchmarks.vaults import vault_on
from standfast.authstate.company import Company
from standfast.authstate.store import AuthStore
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore


class Times:
    """What each operation took."""

    def __init__(self) -> None:
        self.gets: list[float] = []
        self.sets: list[float] = []
        self._began = time.perf_counter()
        self._cpu_s = time.process_time()

    def result(self) -> dict[str, Any]:
        """Figures of the time since this was made."""
        seconds, cpu_s = time.perf_counter() - self._began, time.process_time() - self._cpu_s
        count = len(self.gets) + len(self.sets)
        latencies = {
            f"{kind}_p{int(share * 100)}_ms": percentile(values, share) * 1000
            for kind, values in (("get", self.gets), ("set", self.sets))
            for share in (0.5, 0.99)
        }
        return {
            "ops_per_s": count / seconds,
            "operations": count,
            "seconds": seconds,
            "cpu_us_per_op": cpu_s * 1e6 / count,
            **latencies,
        }


def replay_bare(keys: SqliteKeys, trace: Trace, companies: int, budget_s: float) -> Times:
    """All companies take each step together, and one commit is shared by their writes: group commit at its best."""
    times, clock = Times(), time.perf_counter
    ends = clock() + budget_s
    for operation in itertools.cycle(trace.operations):
        began = clock()
        if isinstance(operation, Get):
            for company in range(companies):
                keys.get(company, operation.key_type, operation.ids)
            times.gets += [(clock() - began) / companies] * companies
        else:
            keys.begin()
            for company in range(companies):
                keys.put(company, operation.batch)
            keys.commit()
            times.sets += [clock() - began] * companies
        if clock() > ends:
            return times
    return times


async def replay_company(store: AuthStore, company: Company, trace: Trace, ends: float, times: Times) -> None:
    clock = time.perf_counter
    for operation in itertools.cycle(trace.operations):
        began = clock()
        if isinstance(operation, Get):
            await store.get_keys(company, operation.key_type, operation.ids)
            times.gets.append(clock() - began)
        else:
            await store.set_keys(company, operation.batch)
            times.sets.append(clock() - began)
        if clock() > ends:
            return


@contextlib.asynccontextmanager
async def _opened(options: dict[str, Any]) -> AsyncIterator[AuthStore]:
    database_options = DatabaseOptions(conninfo=options["conninfo"])
    if options["store"] == "vault":
        async with vault_on(Path(options["directory"]), database_options) as vault:
            yield vault
        return
    async with Database(database_options) as database:
        await migrate(database)
        yield PostgresAuthStore(database)


async def replay(options: dict[str, Any], trace: Trace) -> None:
    """Open the companies, store the first state, wait, and replay."""
    async with _opened(options) as store:
        companies = [Company(f"{options['prefix']}-{number}") for number in range(options["companies"])]
        for number, company in enumerate(companies):
            await store.open(company, pair=True)
            await store.create_creds(company, made_up_creds(number))
            await store.set_keys(company, trace.state)
        await pause()
        times = Times()
        ends = time.perf_counter() + options["budget_s"]
        await asyncio.gather(*(replay_company(store, company, trace, ends, times) for company in companies))
        tell(times.result())


async def bare(options: dict[str, Any], trace: Trace) -> None:
    with contextlib.closing(SqliteKeys(Path(options["directory"]) / "bare.db")) as keys:
        for company in range(options["companies"]):
            keys.begin()
            keys.put(company, trace.state)
            keys.commit()
        await pause()
        tell(replay_bare(keys, trace, options["companies"], options["budget_s"]).result())


def main() -> None:
    options = told_options()
    trace = Trace.read(Path(options["trace"]))
    uvloop.run(bare(options, trace) if options["store"] == "sqlite" else replay(options, trace))


if __name__ == "__main__":
    main()
