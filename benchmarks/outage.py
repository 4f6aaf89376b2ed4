"""Section `outage`: messages at a steady rate between two real Baileys clients, and PostgreSQL gone in the middle.

The same phases are also run without an outage, in the same rounds: that is what the latencies are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.programs import Program
from benchmarks.proxy import Road
from benchmarks.service import gateway_on

RATE = 10.0
BEFORE_S, OUTAGE_S, AFTER_S = 6.0, 20.0, 10.0
ROUNDS = 2  # a round takes minutes, and its figures are of hundreds of messages
KINDS = ("none", "refused", "hung")
AIM = 2.0


async def measure(bench: Bench) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    names = {_name(kind, cached): (kind, cached) for cached in (False, True) for kind in KINDS}
    bench.rounds = min(bench.rounds, ROUNDS)
    for name in bench.alternating(names):
        kind, cached = names[name]
        runs.setdefault(name, []).append(await _run(bench, kind, cached=cached))
    return {
        "rate_per_s": RATE,
        "outage_s": OUTAGE_S * bench.share,
        "runs": {name: _pooled(results) for name, results in runs.items()},
    }


def _name(kind: str, cached: bool) -> str:
    told = "no outage" if kind == "none" else f"PostgreSQL {kind}"
    return f"{told}, Baileys' key cache" if cached else told


async def _run(bench: Bench, kind: str, *, cached: bool) -> dict[str, Any]:
    async with (
        bench.road() as road,
        gateway_on(bench.new_directory("o"), bench.by(road)) as gateway,
        Program.node("outage.mjs", _options(bench, str(gateway.socket), cached=cached)) as program,
    ):
        await program.told()
        await program.go_on()
        while "phase" in (told := await program.told()):
            await _reach(road, kind, told["phase"])
        return told


def _options(bench: Bench, socket: str, *, cached: bool) -> dict[str, Any]:
    phases = (("before", BEFORE_S), ("during", OUTAGE_S), ("after", AFTER_S))
    return {
        **bench.chat_options(),
        "socket": socket,
        "cached": cached,
        "rate": RATE,
        "phases": [[name, seconds * bench.share] for name, seconds in phases],
    }


async def _reach(road: Road, kind: str, phase: str) -> None:
    if phase == "after":
        await road.restore()
    elif phase == "during" and kind == "refused":
        await road.refuse()
    elif phase == "during" and kind == "hung":
        await road.hang()


def _pooled(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One kind's messages of all rounds together: the tail of a single run has too few."""
    messages = [message for result in results for message in result["messages"]]
    figures_by_phase: dict[str, Any] = {}
    for phase in ("before", "during", "after"):
        late = [m["late_ms"] for m in messages if m["phase"] == phase and m["late_ms"] is not None]
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            figures_by_phase[f"{phase}_{name}_ms"] = figures.significant(figures.percentile(late, share))
    return {
        "sent": len(messages),
        "delivered": sum(message["times"] > 0 for message in messages),
        "twice": sum(message["times"] > 1 for message in messages),
        "sends_failed": sum(message["failed"] for message in messages),
        "undecryptable": sum(result["undecryptable"] for result in results),
        **figures_by_phase,
    }


def show(console: Console, result: Mapping[str, Any]) -> None:
    names = ("sent", "delivered", "twice", "undecryptable")
    timed = ("during_p50_ms", "during_p99_ms", "during_max_ms", "after_p99_ms")
    rows = [[name, *(run[figure] for figure in names + timed)] for name, run in result["runs"].items()]
    columns = (
        "in the middle",
        *names,
        "in it: p50 ms",
        "in it: p99 ms",
        "in it: max ms",
        "after it: p99 ms",
    )
    title = f"{result['rate_per_s']:g} messages/s between two clients, {result['outage_s']:g} s of outage"
    figures.show(console, title, columns, rows)
    outages = {name: run for name, run in result["runs"].items() if not name.startswith("no outage")}
    for name, run in outages.items():
        quiet = result["runs"][_name("none", "cache" in name)]
        times = figures.ratio(run["during_p99_ms"], quiet["during_p99_ms"])
        whole = run["delivered"] == run["sent"] and not run["twice"] and not run["sends_failed"]
        met = "met" if whole and times <= AIM else "[bold]not met[/bold]"
        console.print(f"{name}: all once, and p99 {times:g} × that without; aim at most {AIM:g} ×: {met}")
