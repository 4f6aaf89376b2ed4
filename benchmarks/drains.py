"""Section `replay`: how quickly what was journaled in an outage reaches PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.programs import Program
from benchmarks.traces import record

AIM_PER_S = 50_000.0
COMPANIES = 20
BATCHES = {"chat": 300, "uploads": 25}
FIGURES = ("delivered_per_s", "journaled_per_s", "journaling_per_s", "delivered", "journaled", "seconds")


async def measure(bench: Bench) -> dict[str, Any]:
    trace = await record(bench, mirror=True)
    runs: dict[str, list[dict[str, Any]]] = {}
    for workload in bench.alternating(BATCHES):
        runs.setdefault(workload, []).append(await _run(bench, trace, workload))
    return {
        "companies": COMPANIES,
        "workloads": {name: figures.summary(results, FIGURES) for name, results in runs.items()},
    }


async def _run(bench: Bench, trace: Path, workload: str) -> dict[str, Any]:
    async with bench.road() as road:
        options = {
            "trace": str(trace),
            "directory": str(bench.new_directory("w")),
            "conninfo": bench.by(road).to_conninfo(),
            "prefix": f"w{bench.next_number()}",
            "companies": COMPANIES,
            "batches": bench.counted(BATCHES[workload]),
            "workload": workload,
        }
        async with Program.python("drain", options) as program:
            await program.told()
            await road.refuse()
            await program.go_on()
            await program.told()
            await road.restore()
            await program.go_on()
            return await program.told()


def show(console: Console, result: Mapping[str, Any]) -> None:
    workloads = result["workloads"]
    columns = (
        "workload",
        "carried/s",
        "journaled ones gone/s",
        "journaled/s",
        "carried",
        "journaled",
        "seconds",
    )
    rows = [[name, *(workload[figure] for figure in FIGURES)] for name, workload in workloads.items()]
    title = f"Key changes of {result['companies']} companies, carried to PostgreSQL after an outage"
    figures.show(console, title, columns, rows)
    aims = {
        f"{name}: journaled key changes gone, a second": (AIM_PER_S, workload["journaled_per_s"])
        for name, workload in workloads.items()
    }
    figures.show_aims(console, aims)
