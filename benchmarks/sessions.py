"""Section `sessions`: many sessions of one service, beside as many bare Baileys sockets in one Node process.

The sockets are measured as Baileys makes them, and once more with what Standfast mends in Baileys: there the sockets of
a process do not slow each other down, so that only what Standfast does beyond that makes the difference. All are paired
anew with the same simulator, have exchanged a message with their neighbour and have collected their garbage when their
memory is read; then all pairs chat at once. PostgreSQL and the simulator are counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psutil
from rich.console import Console

from benchmarks import figures, usage
from benchmarks.bench import Bench
from benchmarks.programs import Program

SESSIONS = 200
MESSAGES = 20
WARM_UP = 2
MEMORY_AIM, THROUGHPUT_AIM = 1.3, 0.9
BARE, MENDED, STANDFAST = "bare Baileys", "the same, mended", "Standfast"
OPEN_TIMEOUT_S = 600.0
FIGURES = (
    "messages_per_s",
    "resident_mb",
    "cpu_ms",
    "service_mb",
    "service_cpu_ms",
    "simulator_cpu_ms",
    "postgres_mb",
    "postgres_cpu_ms",
)


async def measure(bench: Bench) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    sessions = 2 * bench.counted(SESSIONS // 2)
    for name in bench.alternating((BARE, MENDED, STANDFAST)):
        program = _program(bench, name, sessions)
        runs.setdefault(name, []).append(await _run(bench, program))
    return {
        "sessions": sessions,
        "messages_a_pair": MESSAGES,
        "kinds": {name: figures.summary(results, FIGURES) for name, results in runs.items()},
    }


def _program(bench: Bench, name: str, sessions: int) -> Program:
    number = bench.next_number()
    companies = [[f"s{number}-{index}", f"7999{number:03d}{index:04d}"] for index in range(sessions)]
    collecting = {"NODE_OPTIONS": f"--import {usage.COLLECT.as_uri()}"}
    if name != STANDFAST:
        options = {
            "url": bench.simulator.ready.url,
            "rootKey": bench.simulator.ready.root_key,
            "admin": bench.simulator.ready.admin,
            "companies": companies,
            "mended": name == MENDED,
            "warmUp": WARM_UP,
            "messages": MESSAGES,
        }
        return Program.node("bare.mjs", options, collecting)
    return Program.python(
        "conversing",
        {
            "state_dir": str(bench.new_directory("s")),
            "conninfo": bench.server.options.to_conninfo(),
            "host": {**bench.simulator.host_environment(), **collecting},
            "admin": bench.simulator.ready.admin,
            "companies": companies,
            "warm_up": WARM_UP,
            "messages": MESSAGES,
        },
    )


async def _run(bench: Bench, program: Program) -> dict[str, Any]:
    async with program:
        await program.told(OPEN_TIMEOUT_S)
        measured = usage.family(program.pid)
        await usage.collected(measured)
        memory = {
            "resident_mb": usage.resident_mb(measured),
            "service_mb": usage.resident_mb(measured[:1]),
            "postgres_mb": usage.proportional_mb(usage.family(bench.server_pid)),
        }
        parts = {
            "cpu_ms": measured,
            "service_cpu_ms": measured[:1],
            "simulator_cpu_ms": [psutil.Process(bench.simulator.ready.pid)],
            "postgres_cpu_ms": usage.family(bench.server_pid),
        }
        before = {name: usage.cpu_s(processes) for name, processes in parts.items()}
        await program.go_on()
        told = await program.told()
        used = {name: usage.cpu_s(processes) - before[name] for name, processes in parts.items()}
    return {
        "messages_per_s": told["messages"] / told["seconds"],
        **memory,
        **{name: 1000 * seconds / told["messages"] for name, seconds in used.items()},
    }


def show(console: Console, result: Mapping[str, Any]) -> None:
    kinds, sessions = result["kinds"], result["sessions"]
    rows = [
        [
            name,
            kind["resident_mb"],
            kind["resident_mb"] / sessions,
            kind["messages_per_s"],
            kind["cpu_ms"],
            kind["simulator_cpu_ms"],
            kind["postgres_mb"],
            kind["postgres_cpu_ms"],
            " ".join(figures.shown(run) for run in kind["runs"]),
        ]
        for name, kind in kinds.items()
    ]
    columns = (
        "",
        "resident MB",
        "a session MB",
        "messages/s",
        "CPU ms a message",
        "simulator's",
        "PostgreSQL MB",
        "CPU ms",
        "runs",
    )
    title = f"{sessions} sessions, {sessions // 2} pairs in conversation"
    figures.show(console, title, columns, rows)
    ours = kinds[STANDFAST]
    console.print(
        f"of Standfast's: the service {ours['service_mb']:.0f} MB and {ours['service_cpu_ms']:.2g} ms a message, "
        "the rest its Node hosts"
    )
    memory = figures.ratio(ours["resident_mb"], kinds[BARE]["resident_mb"])
    met = "met" if memory <= MEMORY_AIM else "[bold]not met[/bold]"
    console.print(f"memory, to {BARE}: {memory:g}, aim at most {MEMORY_AIM:g}: {met}")
    figures.show_aims(
        console,
        {
            f"messages/s, to {name}": (
                THROUGHPUT_AIM,
                figures.ratio(ours["messages_per_s"], kinds[name]["messages_per_s"]),
            )
            for name in (BARE, MENDED)
        },
    )
    for name in (BARE, MENDED):
        console.print(
            f"CPU time a message, to {name}: {figures.ratio(ours['cpu_ms'], kinds[name]['cpu_ms']):g}"
        )
