"""Section `restart`: a service that starts while PostgreSQL is away; seconds from process start to open sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.wholes import OPEN_TIMEOUT_S, pair_all, whole
from standfast.postgres.options import DatabaseOptions

AIM_S = 2.0
KINDS = ("PostgreSQL up", "PostgreSQL refused", "PostgreSQL hung")


async def measure(bench: Bench) -> dict[str, Any]:
    number = bench.next_number()
    phones = {f"r{number}-{index}": f"7999300{number:03d}{index}" for index in range(2)}
    state_dir = bench.new_directory("r")
    runs: dict[str, list[dict[str, Any]]] = {}
    async with bench.road() as road:
        async with whole(bench, state_dir, bench.by(road), phones) as program:
            await pair_all(bench, program, phones)
        for kind in bench.alternating(KINDS):
            if kind.endswith("refused"):
                await road.refuse()
            elif kind.endswith("hung"):
                await road.hang()
            run = await _restart(bench, state_dir, bench.by(road), list(phones))
            runs.setdefault(kind, []).append(run)
            await road.restore()
    return {"starts": {kind: figures.summary(results, ("open_s",)) for kind, results in runs.items()}}


async def _restart(
    bench: Bench, state_dir: Path, options: DatabaseOptions, companies: Sequence[str]
) -> dict[str, Any]:
    waiting, opened_at = set(companies), 0.0
    began = time.time()
    async with whole(bench, state_dir, options) as program:
        while waiting:
            told = await program.told(OPEN_TIMEOUT_S)
            waiting.discard(told["open"])
            opened_at = told["at"]
    return {"open_s": opened_at - began}


def show(console: Console, result: Mapping[str, Any]) -> None:
    starts = result["starts"]
    rows = [[kind, start["open_s"], " ".join(map(str, start["runs"]))] for kind, start in starts.items()]
    figures.show(console, "From process start to open sessions", ("", "seconds", "runs"), rows)
    aims = {
        f"{kind}, to {AIM_S:g} s": (1.0, figures.ratio(AIM_S, start["open_s"]))
        for kind, start in starts.items()
    }
    figures.show_aims(console, aims)
