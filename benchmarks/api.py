"""Section `api`: messages a second sent through Standfast's APIs, beside Baileys called directly with the same vault.

All go to the same silent contacts, which everybody has written to before, and a round ends when WhatsApp's server has
confirmed its last message.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import figures, usage
from benchmarks.bench import Bench
from benchmarks.programs import Program
from benchmarks.wholes import pair_all, whole

CONTACTS = 8
MESSAGES = 75
WARM_UP = 10
AIM = 0.70
DIRECT = "Baileys itself"
KINDS = {"python": "Python API", "http": "HTTP API"}
FIGURES = ("messages_per_s", "cpu_ms", "client_cpu_ms", "service_cpu_ms")


async def measure(bench: Bench) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {}
    async with _senders(bench) as (service, senders):
        for name in bench.alternating(senders):
            runs.setdefault(name, []).append(await _run(service, senders[name]))
    direct = figures.median(runs[DIRECT], FIGURES[0])
    return {
        "contacts": CONTACTS,
        "messages_each": bench.counted(MESSAGES),
        "ways": {
            name: {
                **figures.summary(results, FIGURES),
                "ratio": figures.ratio(figures.median(results, FIGURES[0]), direct),
            }
            for name, results in runs.items()
        },
    }


@contextlib.asynccontextmanager
async def _senders(bench: Bench) -> AsyncIterator[tuple[Program, dict[str, Program]]]:
    """One service; the programs that send, through it or with its vault."""
    number = bench.next_number()
    state_dir = bench.new_directory("i")
    contacts = [f"7999400{number:02d}{index:02d}" for index in range(CONTACTS)]
    for contact in contacts:
        await bench.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "silent"})
    company = f"i{number}"
    async with contextlib.AsyncExitStack() as stack:
        program = whole(bench, state_dir, bench.server.options, [company], http="on")
        service = await stack.enter_async_context(program)
        await pair_all(bench, service, {company: f"7999300{number:04d}"})
        senders = {
            DIRECT: _direct(bench, state_dir, f"d{number}", f"7999500{number:04d}", contacts),
            **{name: _sending(bench, state_dir, kind, company, contacts) for kind, name in KINDS.items()},
        }
        for sender in senders.values():
            await stack.enter_async_context(sender)
            await sender.told()
        yield service, senders


def _direct(bench: Bench, state_dir: Path, company: str, phone: str, contacts: Sequence[str]) -> Program:
    return Program.node(
        "sends.mjs",
        {
            "socket": str(state_dir / "gateway.sock"),
            "url": bench.simulator.ready.url,
            "rootKey": bench.simulator.ready.root_key,
            "admin": bench.simulator.ready.admin,
            "company": company,
            "phone": phone,
            "contacts": contacts,
            "warmUp": WARM_UP,
            "messages": bench.counted(MESSAGES),
        },
    )


def _sending(bench: Bench, state_dir: Path, kind: str, company: str, contacts: Sequence[str]) -> Program:
    return Program.python(
        "sending",
        {
            "kind": kind,
            "socket": str(state_dir / "gateway.sock"),
            "company": company,
            "contacts": contacts,
            "warm_up": WARM_UP,
            "messages": bench.counted(MESSAGES),
        },
    )


async def _run(service: Program, sender: Program) -> dict[str, Any]:
    family, client = usage.family(service.pid), usage.family(sender.pid)
    parts = {"cpu_ms": family + client, "client_cpu_ms": client, "service_cpu_ms": family[:1]}
    before = {name: usage.cpu_s(processes) for name, processes in parts.items()}
    await sender.go_on()
    told = await sender.told()
    used = {name: usage.cpu_s(processes) - before[name] for name, processes in parts.items()}
    await sender.told()  # ready for the next round
    return {
        "messages_per_s": told["messages"] / told["seconds"],
        **{name: 1000 * seconds / told["messages"] for name, seconds in used.items()},
    }


def show(console: Console, result: Mapping[str, Any]) -> None:
    ways = result["ways"]
    rows = [
        [name, *(way[figure] for figure in FIGURES), way["ratio"], " ".join(map(figures.shown, way["runs"]))]
        for name, way in ways.items()
    ]
    columns = ("sent through", "messages/s", "CPU ms", "of it client", "of it service", "ratio", "runs")
    title = f"Texts to {result['contacts']} contacts at once, until WhatsApp's server has confirmed all"
    figures.show(console, title, columns, rows)
    aims = {f"{name}, to {DIRECT}": (AIM, ways[name]["ratio"]) for name in KINDS.values() if name in ways}
    figures.show_aims(console, aims)
