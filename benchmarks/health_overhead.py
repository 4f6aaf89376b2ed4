"""Part `overhead` of section `health`: what it costs that every call to PostgreSQL is measured.

Calls with and without observers take turns; the ratio is that of their medians over 200 calls each, and of all such
ratios the median is shown, and the middle half. `share` is another way to it: what is noted of a call, by itself, of a
bare call. The calls without observers have what the pool needs anyway: who holds which connection.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.programs import Program
from standfast.postgres.migrations import migrate
from standfast.postgres.pool import Database

AIM = 0.01
SECONDS = 8.0


async def measure(bench: Bench) -> dict[str, Any]:
    async with Database(bench.server.options) as database:
        await migrate(database)
    options = {"conninfo": bench.server.options.to_conninfo(), "seconds": SECONDS * bench.share}
    runs = []
    for _ in bench.alternating(["overhead"]):
        async with Program.python("queries", options) as program:
            runs.append(await program.told())
    noted_ns = figures.median(runs, "noted_ns")
    return {
        "on_query_ns": figures.significant(figures.median(runs, "on_query_ns"), 3),
        "noted_ns": figures.significant(noted_ns, 3),
        "statements": {
            name: _summary([run["statements"][name] for run in runs], noted_ns)
            for name in runs[0]["statements"]
        },
    }


def _summary(runs: Sequence[Mapping[str, list[float]]], noted_ns: float) -> dict[str, Any]:
    ratios = [
        observed / bare for run in runs for bare, observed in zip(run["bare"], run["observed"], strict=True)
    ]
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    bare_us = statistics.median(value for run in runs for value in run["bare"])
    return {
        "bare_us": figures.significant(bare_us),
        "observed_us": figures.significant(
            statistics.median(value for run in runs for value in run["observed"])
        ),
        "ratio": figures.significant(middle),
        "quarters": [figures.significant(lower), figures.significant(upper)],
        "turns": len(ratios),
        "share": figures.significant(noted_ns / 1000 / bare_us, 3),
    }


def show(console: Console, result: Mapping[str, Any]) -> None:
    console.print(
        f"noted of a call: {result['noted_ns']:.0f} ns, {result['on_query_ns']:.0f} of them in on_query"
    )
    rows = [
        [
            name,
            one["bare_us"],
            one["observed_us"],
            f"{one['ratio']:.4f}",
            " to ".join(f"{quarter:.3f}" for quarter in one["quarters"]),
            one["turns"],
            f"{one['share']:.2%}",
        ]
        for name, one in result["statements"].items()
    ]
    columns = ("statement", "bare µs", "measured µs", "ratio", "middle half", "turns", "noted, of bare")
    figures.show(console, "Calls to PostgreSQL by its socket, without and with metrics", columns, rows)
    for name, one in result["statements"].items():
        met = "met" if one["ratio"] < 1 + AIM else "[bold]not met[/bold]"
        console.print(f"{name}: {one['ratio'] - 1:+.2%}, aim less than {AIM:.0%}: {met}")
