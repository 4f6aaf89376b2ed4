"""Phases 0 and 1: what a drill needs, and a node's first opening of a company that another one has paired.

Invariant: population is measured on a node that has never seen the company.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time

from standfast.drill.correspondence import ALPHA, BRAVO, COMPANIES, CONTACT, PHONES
from standfast.drill.installation import Installation
from standfast.drill.notebook import Notebook
from standfast.drill.processes import environment, run
from standfast.drill.rehearsal import Rehearsal
from standfast.drill.waiting import until
from standfast.errors import DrillFailed
from standfast.service.client import Client
from standfast.service.simulator import Simulator
from standfast.settings import Settings

_ROOM_BYTES = 512 * 2**20
_PAIR_TIMEOUT_S = 60.0
_VERSION_TIMEOUT_S = 15.0
_POPULATION_TIMEOUT_S = 30.0
_POPULATION_LIMIT_S = 1.0
_SCAN_PAUSE_S = 0.2


async def preconditions(settings: Settings, notebook: Notebook) -> None:
    """Room on the disk; Node, the bridge and PostgreSQL's programs are found when they are started."""
    free = shutil.disk_usage(settings.state_dir).free
    notebook.holds(
        "room for the drill",
        f"{_ROOM_BYTES // 2**20} MB",
        f"{free // 2**20:,} MB",
        ok=free >= _ROOM_BYTES,
    )
    if free < _ROOM_BYTES:
        raise DrillFailed(
            "there is too little room on the disk of the state directory", next_step="Free half a gigabyte."
        )


async def parts_answer(notebook: Notebook, parts: Installation) -> None:
    """PostgreSQL, the simulator and Node run."""
    ran = await run([str(parts.node), "--version"], environment({}), parts.root, _VERSION_TIMEOUT_S)
    version = ran.out.strip()
    found = f"Node {version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    notebook.holds("PostgreSQL, simulator and Node start", "all three", found, ok=True)
    await parts.simulator.ask("POST", "/contacts", {"phone": PHONES[CONTACT], "behaviour": "silent"})


async def populate(rehearsal: Rehearsal) -> None:
    """Pair on the first node, chat, end it; open on the second."""
    notebook, parts = rehearsal.notebook, rehearsal.parts
    first = parts.service("first")
    notebook.doing("pairing two companies")
    await first.start()
    for company in COMPANIES:
        await _pair(first.client, parts.simulator, company)
        notebook.moment("state", "paired", subject=company)
    for number in range(4):
        sender, to = (ALPHA, BRAVO) if number % 2 else (BRAVO, ALPHA)
        await first.client.send(sender, f"+{PHONES[to]}", f"acquaintance {number}")
        await first.client.send(sender, f"+{PHONES[CONTACT]}", f"acquaintance {number}")
    notebook.doing("ending the first node")
    await first.stop()
    notebook.doing("opening on a node that knows nothing")
    await rehearsal.service.start()
    slowest_s = 0.0
    for company in COMPANIES:
        slowest_s = max(slowest_s, await _first_open(rehearsal, company))
        notebook.moment("state", "its replica is whole", subject=company)
    notebook.took("cache population, from a first open", slowest_s, _POPULATION_LIMIT_S)
    await rehearsal.sessions_open()
    keys, apart = await rehearsal.keys_apart()
    rehearsal.saves_are_whole(keys, apart, "the replica is what PostgreSQL has")


async def first_words(rehearsal: Rehearsal) -> None:
    """One message on each route arrives."""
    await rehearsal.letters.round()
    await rehearsal.letters.arrivals()
    rehearsal.notebook.counted("messages lost before any outage", len(rehearsal.letters.lost()), 0)


async def _pair(client: Client, simulator: Simulator, company: str) -> None:
    async def follow() -> None:
        async with client.events(company) as events:
            await client.pair(company)
            async for event in events:
                if event.kind == "qr":
                    await asyncio.sleep(_SCAN_PAUSE_S)
                    await simulator.ask("POST", "/scan", {"qr": event.data["qr"], "phone": PHONES[company]})
                if event.kind == "state" and event.data["state"] == "open":
                    return

    try:
        await asyncio.wait_for(follow(), _PAIR_TIMEOUT_S)
    except TimeoutError:
        raise DrillFailed(f"{company} was not paired within {_PAIR_TIMEOUT_S:g} s") from None


async def _first_open(rehearsal: Rehearsal, company: str) -> float:
    """Seconds from the command until the vault has the company open, which it has with a whole replica alone."""
    client = rehearsal.service.client

    async def look() -> bool:
        rows = {row["company"]: row for row in (await client.status()).vault["companies"]}
        row = rows.get(company)
        return row is not None and row["open"] and row["replica_age_s"] is not None

    began = time.monotonic()
    await client.start(company)
    await until(look, f"the replica of {company} was whole", _POPULATION_TIMEOUT_S)
    return time.monotonic() - began
