"""Queries with and without the metrics of `health`, call by call in turns, in one process. Options: `{"conninfo",
"seconds"}`; tells median microseconds a call of every 200 of each, and nanoseconds of what is noted of a call.

Invariant: both databases are alike, with one connection each; only one of them has observers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from benchmarks.child import tell, told_options
from standfast.authstate.company import Company
from standfast.health.pool import PoolHistory
from standfast.health.queries import QueryMetrics
from standfast.postgres.observing import Execution, PoolUse
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore

_COMPANY = Company("bench")
_CALLS = 200
_NOTED = 200_000
_WARM_UP = 400

Work = Callable[[Database], Awaitable[object]]


async def _ping(database: Database) -> None:
    await database.ping()


async def _get(database: Database) -> None:
    await PostgresAuthStore(database).get_keys(_COMPANY, "session", ["one"])


async def _timed(work: Work, database: Database) -> float:
    """Microseconds."""
    began = time.perf_counter_ns()
    await work(database)
    return (time.perf_counter_ns() - began) / 1000


async def _in_turns(work: Work, bare: Database, observed: Database, seconds: float) -> dict[str, list[float]]:
    """A call here, a call there: whatever else the machine does meets both."""
    for database in (bare, observed):
        for _ in range(_WARM_UP):
            await work(database)
    found: dict[str, list[float]] = {"bare": [], "observed": []}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        turns = [(await _timed(work, bare), await _timed(work, observed)) for _ in range(_CALLS)]
        found["bare"].append(statistics.median(one for one, _ in turns))
        found["observed"].append(statistics.median(other for _, other in turns))
    return found


def _ns_a_time(note: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    for _ in range(_NOTED):
        note()
    return (time.perf_counter_ns() - began) / _NOTED


def _noted() -> dict[str, float]:
    """Of `on_query` alone, and of everything that a call has more because it is measured."""
    metrics, history = QueryMetrics(), PoolHistory(10)
    use, connection = PoolUse(history), object()
    execution = Execution("ping", ended_s=1.0, duration_s=0.0003, ran_s=0.0003)

    def whole() -> None:
        call = Execution("ping", expected_s=0.0)
        start_s = time.monotonic()
        use.taken(connection, call.name, 0)
        use.returned(connection, call, 0)
        call.duration_s = call.ended_s - start_s
        metrics.on_query(call)

    empty = _ns_a_time(lambda: None)
    return {
        "on_query_ns": _ns_a_time(lambda: metrics.on_query(execution)) - empty,
        "noted_ns": _ns_a_time(whole) - empty,
    }


async def _main(options: dict[str, Any]) -> None:
    reached = DatabaseOptions(conninfo=options["conninfo"])
    history = PoolHistory(reached.max_connections)
    async with Database(reached) as bare, Database(reached, QueryMetrics(), history) as observed:
        measured = {
            name: await _in_turns(work, bare, observed, options["seconds"])
            for name, work in (("select 1", _ping), ("keys.get", _get))
        }
    tell({"statements": measured, **_noted()})


if __name__ == "__main__":
    uvloop.run(_main(told_options()))
