"""Section `trace`: the key operations of real Baileys, replayed against stores, from Python and from Node.

Every ratio is of medians of one run, whose rounds alternate. A store that is far away is given the same time as the
others, so it does fewer operations.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import DELAYS_MS, Bench
from benchmarks.programs import Program, run
from benchmarks.service import Running, direct_gateway_on, gateway_on
from benchmarks.trace import Trace

BUDGET_S = 1.5
MESSAGES = 90
MANY = 20
FIGURES = ("ops_per_s", "get_p50_ms", "get_p99_ms", "set_p50_ms", "set_p99_ms", "cpu_us_per_op")
Measurement = Callable[[], Awaitable[dict[str, Any]]]


async def record(bench: Bench, *, mirror: bool) -> Path:
    """Two real clients chat; the operations of one of them, in a file."""
    output = bench.directory / ("mirrored.json" if mirror else "trace.json")
    options = {**bench.chat_options(), "mirror": mirror, "output": str(output)}
    await run(Program.node("record.mjs", {**options, "messages": bench.counted(MESSAGES)}))
    return output


async def measure(bench: Bench) -> dict[str, Any]:
    trace = await record(bench, mirror=False)
    crossing = await record(bench, mirror=True)
    runs: dict[str, list[dict[str, Any]]] = {}
    # Only what is compared runs side by side: all gateways at once would want more connections than there are.
    sides = [_local(bench, trace, crossing), *(_gateways(bench, trace, delay_ms) for delay_ms in DELAYS_MS)]
    for side in sides:
        async with side as measurements:
            for name in bench.alternating(measurements):
                runs.setdefault(name, []).append(await measurements[name]())
    sockets = figures.significant(figures.median(runs.pop("socket"), "round_trip_ms"), 3)
    return {
        "trace": Trace.read(trace).described(),
        "crossing": Trace.read(crossing).described(),
        "socket_round_trip_1kb_ms": sockets,
        "stores": {name: figures.summary(results, FIGURES) for name, results in runs.items()},
    }


@contextlib.asynccontextmanager
async def _local(bench: Bench, trace: Path, crossing: Path) -> AsyncIterator[dict[str, Measurement]]:
    """By name, what to run: everything that needs no gateway."""
    measurements: dict[str, Measurement] = {}
    echo = str(bench.directory / "echo.sock")
    async with Program.python("echo", {"socket": echo}) as program:
        await program.told()
        budget_ms = BUDGET_S * bench.share * 1000
        measurements["socket"] = lambda: run(
            Program.node("echo.mjs", {"socket": echo, "budgetMs": budget_ms})
        )
        for companies in (1, MANY):
            for store, title in (
                ("sqlite", "bare SQLite"),
                ("vault", "vault"),
                ("postgres", "direct PostgreSQL"),
            ):
                _add_python(
                    bench, measurements, store, f"python: {title}{_many(companies)}", trace, companies
                )
            _add_node(
                bench, measurements, "files", f"node: Baileys' files{_many(companies)}", trace, companies
            )
        _add_python(bench, measurements, "vault", "python: vault, what crosses the socket", crossing, 1)
        yield measurements


@contextlib.asynccontextmanager
async def _gateways(bench: Bench, trace: Path, delay_ms: float) -> AsyncIterator[dict[str, Measurement]]:
    """By name, what to run through gateways whose PostgreSQL is that far away."""
    measurements: dict[str, Measurement] = {}
    async with (
        bench.reached(delay_ms) as options,
        direct_gateway_on(bench.new_directory("d"), options) as direct,
        gateway_on(bench.new_directory("v"), options) as vault,
    ):
        for companies in (1, MANY):
            end = _away(delay_ms) + _many(companies)
            for title, store, gateway in (
                ("vault", "standfast", vault),
                ("vault, every operation crosses", "gateway", vault),
                ("direct PostgreSQL, coherent copy", "standfast", direct),
                ("direct PostgreSQL", "gateway", direct),
            ):
                _add_node(bench, measurements, store, f"node: {title}{end}", trace, companies, gateway)
        yield measurements


def _add_python(
    bench: Bench, measurements: dict[str, Measurement], store: str, name: str, trace: Path, companies: int
) -> None:
    def measurement() -> Awaitable[dict[str, Any]]:
        options = {
            "store": store,
            "trace": str(trace),
            "directory": str(bench.new_directory("p")),
            "conninfo": bench.server.options.to_conninfo(),
            "prefix": f"p{bench.next_number()}",
            "companies": companies,
            "budget_s": BUDGET_S * bench.share,
        }
        return run(Program.python("replay", options))

    measurements[name] = measurement


def _add_node(
    bench: Bench,
    measurements: dict[str, Measurement],
    store: str,
    name: str,
    trace: Path,
    companies: int,
    gateway: Running | None = None,
) -> None:
    def measurement() -> Awaitable[dict[str, Any]]:
        options: dict[str, Any] = {
            "store": store,
            "trace": str(trace),
            "prefix": f"n{bench.next_number()}",
            "companies": companies,
            "budgetMs": BUDGET_S * bench.share * 1000,
        }
        if gateway is None:
            options["folder"] = str(bench.new_directory("f"))
        else:
            options["socket"] = str(gateway.socket)
        return run(Program.node("replay.mjs", options))

    measurements[name] = measurement


def _many(companies: int) -> str:
    return f", {companies} companies" if companies > 1 else ""


def _away(delay_ms: float) -> str:
    return f", {delay_ms:g} ms away" if delay_ms else ""


def aims(stores: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """What was aimed at: at least, and reached."""

    def reached(name: str, reference: str) -> float:
        return figures.ratio(stores[name]["ops_per_s"], stores[reference]["ops_per_s"])

    many, far = _many(MANY), _away(10.0)
    return {
        "python: vault to bare SQLite": (0.8, reached("python: vault", "python: bare SQLite")),
        f"python: vault to bare SQLite{many}": (
            0.8,
            reached(f"python: vault{many}", f"python: bare SQLite{many}"),
        ),
        "python: gets at p99 faster than 0.1 ms, times": (
            1.0,
            figures.ratio(0.1, stores["python: vault"]["get_p99_ms"]),
        ),
        "node: vault to direct PostgreSQL": (2.0, reached("node: vault", "node: direct PostgreSQL")),
        f"node: vault to direct PostgreSQL{far}": (
            50.0,
            reached(f"node: vault{far}", f"node: direct PostgreSQL{far}"),
        ),
        f"node: vault to direct PostgreSQL{far}{many}": (
            10.0,
            reached(f"node: vault{far}{many}", f"node: direct PostgreSQL{far}{many}"),
        ),
    }


def show(console: Console, result: Mapping[str, Any]) -> None:
    stores = result["stores"]
    columns = (
        "keys in",
        "operations/s",
        "get p50 ms",
        "get p99 ms",
        "set p50 ms",
        "set p99 ms",
        "own CPU µs",
    )
    rows = [[name, *(store.get(figure) for figure in FIGURES)] for name, store in stores.items()]
    made_of = result["trace"]
    title = (
        f"Trace of real Baileys: {made_of['operations']} operations, {made_of['sets']} of them sets"
        f" of {made_of['set_bytes_median']} bytes (median)"
    )
    figures.show(console, title, columns, rows)
    console.print(f"bare socket, round trip of 1 KB: {result['socket_round_trip_1kb_ms']} ms")
    figures.show_aims(console, aims(stores))
