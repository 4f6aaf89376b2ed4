"""Section `webhooks`: events delivered a second, against bare posts, and what the gateway's clients feel of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures
from benchmarks.bench import Bench
from benchmarks.programs import Program
from standfast.service.link import Link

RATE = 500.0
SECONDS = 10.0
COUNT = 5_000
KINDS = ("bare", "backlog", "idle", "steady")
SHARE_AIM = 0.25
LATE_AIM_MS = 20.0
PING_INTERVAL_S = 0.005


async def measure(bench: Bench) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    async with Program.python("receive", {}) as receiver:
        url = (await receiver.told())["url"]
        for kind in bench.alternating(KINDS):
            runs.setdefault(kind, []).append(await _run(bench, receiver, kind, url))
    names = ("a_second", "p50_ms", "p99_ms", "ping_p50_ms", "ping_p99_ms")
    return {"kinds": {kind: figures.summary(results, names) for kind, results in runs.items()}}


async def _run(bench: Bench, receiver: Program, kind: str, url: str) -> dict[str, Any]:
    directory = bench.new_directory("w")
    options = {
        "directory": str(directory),
        "url": url,
        "kind": kind,
        "count": bench.counted(COUNT),
        "rate": RATE,
        "seconds": SECONDS * bench.share,
    }
    async with Program.python("deliver", options) as program:
        await program.told()
        pinging = asyncio.create_task(_ping(directory / "gateway.sock"))
        await program.go_on()
        took_s = (await program.told())["took_s"]
        pinging.cancel()
        waits_ms = await pinging
    received = await receiver.result()
    run = {
        "a_second": received["received"] / took_s,
        "ping_p50_ms": figures.percentile(waits_ms, 0.5),
        "ping_p99_ms": figures.percentile(waits_ms, 0.99),
    }
    return run | ({"p50_ms": received["p50_ms"], "p99_ms": received["p99_ms"]} if kind == "steady" else {})


async def _ping(socket: Path) -> list[float]:
    """How long an operator waits for an answer, in ms, until cancelled."""
    link, waits_ms = Link(socket), []
    try:
        while True:
            began = time.perf_counter()
            await link.request("status", {}, 10.0)
            waits_ms.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PING_INTERVAL_S)
    except asyncio.CancelledError:
        return waits_ms
    finally:
        link.close()


def show(console: Console, result: Mapping[str, Any]) -> None:
    kinds = result["kinds"]
    titles = {
        "bare": "bare posts, nothing written down",
        "backlog": "a webhook's backlog",
        "idle": "nothing",
        "steady": f"{RATE:g} a second",
    }
    columns = ("", "a second", "age p50 ms", "p99 ms", "gateway p50 ms", "p99 ms")
    names = ("a_second", "p50_ms", "p99_ms", "ping_p50_ms", "ping_p99_ms")
    rows = [[titles[kind], *(kinds[kind].get(name) for name in names)] for kind in KINDS]
    figures.show(console, "Webhooks", columns, rows)
    steady = kinds["steady"]
    aims = {
        "steady, of what was asked for": (0.95, figures.ratio(steady["a_second"], RATE)),
        "backlog, to bare posts": (
            SHARE_AIM,
            figures.ratio(kinds["backlog"]["a_second"], kinds["bare"]["a_second"]),
        ),
        f"{LATE_AIM_MS:g} ms, to the gateway's p99": (
            1.0,
            figures.ratio(LATE_AIM_MS, steady["ping_p99_ms"]),
        ),
    }
    figures.show_aims(console, aims)
