"""Part `command` of section `health`: how long `standfast health` takes, process start to end, beside an empty Python.

With a service of two companies; without one, and with PostgreSQL hung besides, it looks from outside. Calls take turns.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.wholes import pair_all, whole
from standfast.postgres.options import DatabaseOptions

CALLS = 20
CALL_TIMEOUT_S = 30.0
AIM_S = 0.3
OUTSIDE_AIM_S = 3.0
_STANDFAST = (sys.executable, "-m", "standfast")
_COMMANDS: Mapping[str, Sequence[str]] = {
    "an empty Python": (sys.executable, "-c", "pass"),
    "standfast --help": (*_STANDFAST, "--help"),
    "with a service": (*_STANDFAST, "health"),
    "…, --json": (*_STANDFAST, "health", "--json"),
    "…, --verbose": (*_STANDFAST, "health", "--verbose"),
}


async def measure(bench: Bench) -> dict[str, Any]:
    number = bench.next_number()
    phones = {f"h{number}-{index}": f"7999400{number:03d}{index}" for index in range(2)}
    state_dir, calls = bench.new_directory("h"), bench.counted(CALLS)
    runs: dict[str, list[dict[str, Any]]] = {}
    async with bench.road() as road:
        options = bench.by(road)
        async with whole(bench, state_dir, options, phones) as program:
            await pair_all(bench, program, phones)
            for name in bench.alternating(_COMMANDS):
                run = await _timed(_COMMANDS[name], state_dir, options, calls)
                runs.setdefault(name, []).append(run)
        for name in bench.alternating(("without a service", "…, PostgreSQL hung")):
            if name.endswith("hung"):
                await road.hang()
            run = await _timed((*_STANDFAST, "health"), state_dir, options, max(1, calls // 4))
            runs.setdefault(name, []).append(run)
            await road.restore()
    return {name: figures.summary(found, ("p50_ms", "p95_ms")) for name, found in runs.items()}


async def _timed(
    command: Sequence[str], state_dir: Path, options: DatabaseOptions, calls: int
) -> dict[str, Any]:
    environment = {
        **os.environ,
        "STANDFAST_STATE_DIR": str(state_dir),
        "DATABASE_URL": options.to_conninfo(),
    }
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.wait_for(process.wait(), CALL_TIMEOUT_S)
        took.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": figures.percentile(took, 0.5), "p95_ms": figures.percentile(took, 0.95)}


def show(console: Console, result: Mapping[str, Any]) -> None:
    rows = [
        [name, one["p50_ms"], one["p95_ms"], " ".join(map(str, one["runs"]))] for name, one in result.items()
    ]
    title = "standfast health, process start to end"
    figures.show(console, title, ("", "p50 ms", "p95 ms", "runs, p50"), rows)
    with_service, hung = result["with a service"], result["…, PostgreSQL hung"]
    aims = {
        f"with a service, to {AIM_S:g} s (p95)": (
            1.0,
            figures.ratio(AIM_S * 1000, with_service["p95_ms"]),
        ),
        f"PostgreSQL hung, to {OUTSIDE_AIM_S:g} s (p95)": (
            1.0,
            figures.ratio(OUTSIDE_AIM_S * 1000, hung["p95_ms"]),
        ),
    }
    figures.show_aims(console, aims)
