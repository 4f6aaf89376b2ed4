"""Section `line`: two real Baileys clients in conversation, by where their keys are kept.

The clients run in one Node process and talk through the simulator; everything between sending and reading is real.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import DELAYS_MS, Bench
from benchmarks.programs import Program
from benchmarks.proxy import Road
from benchmarks.service import Running, direct_gateway_on, gateway_on

MESSAGES = 200
AIM = 0.95
FIGURES = ("messages_per_s", "key_operations_per_s", "cpu_ms_per_message")
MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a run's keys are kept: a gateway, or nowhere but in memory."""

    gateway: Running | None = None
    refusing: Road | None = None


async def measure(bench: Bench) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    async with _places(bench) as places:
        for name in bench.alternating(places):
            runs.setdefault(name, []).append(await _chat(bench, places[name]))
    memory = figures.median(runs[MEMORY], FIGURES[0])
    return {
        "messages_each_way": bench.counted(MESSAGES),
        "stores": {
            name: {
                **figures.summary(results, FIGURES),
                "ratio": figures.ratio(figures.median(results, FIGURES[0]), memory),
                "doubles": sum(run["doubles"] for run in results),
            }
            for name, results in runs.items()
        },
    }


@contextlib.asynccontextmanager
async def _places(bench: Bench) -> AsyncIterator[dict[str, Kept]]:
    places = {MEMORY: Kept()}
    async with contextlib.AsyncExitStack() as stack:
        for delay_ms in DELAYS_MS:
            options = await stack.enter_async_context(bench.reached(delay_ms))
            vault = await stack.enter_async_context(gateway_on(bench.new_directory("v"), options))
            places[f"vault, {delay_ms:g} ms to PostgreSQL"] = Kept(vault)
        road = await stack.enter_async_context(bench.road())
        cut_off = gateway_on(bench.new_directory("v"), bench.by(road))
        places["vault, PostgreSQL gone"] = Kept(await stack.enter_async_context(cut_off), refusing=road)
        direct = direct_gateway_on(bench.new_directory("d"), bench.server.options)
        places["direct PostgreSQL, 0 ms"] = Kept(await stack.enter_async_context(direct))
        yield places


async def _chat(bench: Bench, kept: Kept) -> dict[str, Any]:
    options = {
        **bench.chat_options(),
        "store": "standfast" if kept.gateway else "memory",
        "socket": str(kept.gateway.socket) if kept.gateway else None,
        "messages": bench.counted(MESSAGES),
    }
    async with Program.node("chat.mjs", options) as program:
        await program.told()
        if kept.refusing is not None:
            await kept.refusing.refuse()
        try:
            await program.go_on()
            return await program.told()
        finally:
            if kept.refusing is not None:
                await kept.refusing.restore()


def show(console: Console, result: Mapping[str, Any]) -> None:
    stores = result["stores"]
    rows = [
        [
            name,
            store["messages_per_s"],
            store["key_operations_per_s"],
            store["cpu_ms_per_message"],
            store["ratio"],
            " ".join(figures.shown(run) for run in store["runs"]),
        ]
        for name, store in stores.items()
    ]
    columns = ("keys in", "messages/s", "key operations/s", "client CPU ms", "ratio to memory", "runs")
    figures.show(console, "Two real Baileys clients in conversation", columns, rows)
    vaults = {name: store for name, store in stores.items() if name.startswith("vault")}
    figures.show_aims(
        console, {f"{name}, to memory": (AIM, store["ratio"]) for name, store in vaults.items()}
    )
