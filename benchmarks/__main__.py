"""`make bench`: what it costs to keep auth state in PostgreSQL, as a ratio to keeping it in memory, in one run.

Two real Baileys clients in one Node process talk through the simulator. Rounds alternate between the stores, so
that a machine whose speed drifts does not favour one; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.proxy import delaying_proxy
from benchmarks.service import gateway_on
from standfast import __version__
from standfast.node import bridge_directory, node_binary
from standfast.postgres.embedded import EmbeddedServer
from standfast.service.simulator import Simulator

CHAT = Path(__file__).parent / "chat.mjs"
RUN_TIMEOUT_S = 180.0
AIM = 0.70
_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def _stores(directory: Path, delay_ms: float) -> AsyncIterator[dict[str, str | None]]:
    """By the name of a run, the gateway socket that it uses; None keeps everything in memory."""
    server = EmbeddedServer(directory / "server", listen_port=0)
    async with server:
        tcp = server.tcp_options
        async with (
            gateway_on(directory / "near", server.options) as near,
            delaying_proxy("127.0.0.1", int(tcp.port or 0), delay_ms / 1000) as port,
            gateway_on(directory / "far", replace(tcp, port=port)) as far,
        ):
            yield {"memory": None, "standfast": str(near), f"standfast, {delay_ms:g} ms away": str(far)}


async def _chat(simulator: Simulator, socket: str | None, messages: int) -> dict[str, Any]:
    number = next(_numbers)
    options = {
        "store": "standfast" if socket else "memory",
        "socket": socket,
        "url": simulator.ready.url,
        "rootKey": simulator.ready.root_key,
        "admin": simulator.ready.admin,
        "bridge": str(bridge_directory()),
        "messages": messages,
        "pairs": [[f"a{number}", f"7999100{number:04d}"], [f"b{number}", f"7999200{number:04d}"]],
    }
    process = await asyncio.create_subprocess_exec(
        str(node_binary()), str(CHAT), json.dumps(options), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(RUN_TIMEOUT_S):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise SystemExit("a run did not end in time; see the messages above") from None
    if process.returncode != 0:
        raise SystemExit("a run failed; see the messages above")
    result: dict[str, Any] = json.loads(out)
    return result


async def _measure(rounds: int, messages: int, delay_ms: float, console: Console) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as name:
        directory = Path(name)
        for part in ("server", "near", "far"):
            (directory / part).mkdir(mode=0o700)
        simulator = Simulator(directory / "whatsapp", node_binary(), bridge_directory())
        try:
            await simulator.start()
            async with _stores(directory, delay_ms) as stores:
                for round_number, (store, socket) in itertools.product(range(rounds), stores.items()):
                    console.print(f"round {round_number + 1}/{rounds}: {store}", style="dim")
                    # A distant database needs fewer messages to be measured as well.
                    count = messages if "away" not in store else max(20, messages // 5)
                    runs.setdefault(store, []).append(await _chat(simulator, socket, count))
        finally:
            await simulator.stop()
    return {store: _summary(results, runs["memory"]) for store, results in runs.items()}


def _summary(results: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    def median(runs: list[dict[str, Any]], figure: str) -> float:
        return float(statistics.median(run[figure] for run in runs))

    figures = ("messages_per_s", "key_operations_per_s")
    summary: dict[str, Any] = {figure: round(median(results, figure), 1) for figure in figures}
    summary["ratio"] = round(median(results, "messages_per_s") / median(reference, "messages_per_s"), 3)
    summary["doubles"] = sum(run["doubles"] for run in results)
    summary["runs"] = [round(run["messages_per_s"], 1) for run in results]
    return summary


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(title="Two real Baileys clients in conversation, by where their keys are kept")
    table.add_column("keys in")
    for name in ("messages/s", "key operations/s", "ratio to memory", "runs"):
        table.add_column(name, justify="right")
    for store, figures in report["stores"].items():
        runs = " ".join(f"{run:.0f}" for run in figures["runs"])
        table.add_row(
            store,
            f"{figures['messages_per_s']:.0f}",
            f"{figures['key_operations_per_s']:.0f}",
            f"{figures['ratio']:.2f}",
            runs,
        )
    console.print(table)
    met = report["stores"]["standfast"]["ratio"] >= AIM
    console.print(f"aim with PostgreSQL local: ratio of at least {AIM:.2f}: {'met' if met else 'not met'}")


def main() -> None:
    """Parse, measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=300, help="each way, each round")
    parser.add_argument("--delay-ms", type=float, default=10.0, help="round trip to the distant database")
    parser.add_argument("--output", type=Path, default=Path("bench-results") / "chat.json")
    arguments = parser.parse_args()
    console = Console()
    stores = asyncio.run(_measure(arguments.rounds, arguments.messages, arguments.delay_ms, console))
    report = {
        "what": "two Baileys clients in conversation through the simulator",
        "standfast": __version__,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": arguments.rounds,
        "messages_each_way": arguments.messages,
        "stores": stores,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print(console, report)
    console.print(f"written to {arguments.output}", style="dim")


if __name__ == "__main__":
    main()
