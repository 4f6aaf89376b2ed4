"""Phase 6: to files and back, by the commands that an operator types.

Invariant: only one client at a time is connected as a company: the plain Baileys logs in while the service is stopped.
"""

from __future__ import annotations

import asyncio
import time

from standfast.drill.correspondence import ALPHA, CONTACT, PHONES
from standfast.drill.processes import Ran, environment, run
from standfast.drill.rehearsal import Rehearsal
from standfast.errors import DrillFailed, StandfastError

LIMIT_S = 12.0
LEGACY = "12 s"
_PLAIN_TIMEOUT_S = 40.0
_SETTLE_TIMEOUT_S = 20.0


async def emergency(rehearsal: Rehearsal) -> None:
    """PostgreSQL dies; to files; a plain Baileys from a folder; back."""
    notebook, letters, kind = rehearsal.notebook, rehearsal.letters, rehearsal.plan.kinds[0]
    notebook.doing("PostgreSQL is gone, the node goes to files")
    await rehearsal.begin_outage(kind)
    await rehearsal.noticed()
    await letters.round()
    notebook.to_files_s = await _command(rehearsal, "to-files")
    notebook.took("to files", notebook.to_files_s, LIMIT_S, legacy=LEGACY)
    await rehearsal.sessions_open()
    await letters.round()
    await letters.arrivals()
    await _plain(rehearsal)
    await rehearsal.parts.outages.end()
    notebook.moment("outage", kind, since=rehearsal.outage_at_s)
    notebook.moment("restored", "PostgreSQL is back")
    await letters.round()
    notebook.doing("the way back")
    notebook.to_postgres_s = await _command(rehearsal, "to-postgres")
    notebook.took("back to PostgreSQL", notebook.to_postgres_s, LIMIT_S, legacy=LEGACY)
    await rehearsal.sessions_open()
    await letters.round()
    await letters.arrivals()
    keys, apart = await rehearsal.keys_apart()
    rehearsal.saves_are_whole(keys, apart, "after the way back PostgreSQL has every write")
    notebook.counted("messages lost to files and back", len(letters.lost()), 0)


async def _command(rehearsal: Rehearsal, name: str) -> float:
    """Run it as an operator would; the seconds from its start to its exit."""
    began, began_s = time.monotonic(), rehearsal.notebook.now()
    ran = await rehearsal.service.command("emergency", name, "--yes", "--json")
    took_s = time.monotonic() - began
    rehearsal.notebook.moment("command", f"standfast emergency {name}", since=began_s)
    if ran.code:
        raise DrillFailed(f"standfast emergency {name} failed: {ran.complaint()}")
    return took_s


async def _plain(rehearsal: Rehearsal) -> None:
    """The service ends; a plain Baileys logs in from the company's folder, writes and reads; the service goes on."""
    notebook = rehearsal.notebook
    notebook.doing("a plain Baileys logs in from a folder")
    await rehearsal.service.stop()
    ran = await _logged_in(rehearsal)
    notebook.holds(
        "a plain Baileys starts from the folder",
        "logs in, writes, reads",
        "did" if not ran.code else ran.complaint(),
        ok=not ran.code,
    )
    notebook.doing("the service goes on from files")
    await rehearsal.service.start()
    await rehearsal.sessions_open()


async def _logged_in(rehearsal: Rehearsal) -> Ran:
    letters, parts = rehearsal.letters, rehearsal.parts
    letter = letters.expect(ALPHA, CONTACT, "a plain Baileys writes")
    argv = [
        str(parts.node),
        str(parts.bridge / "plain-login.mjs"),
        str(parts.folders / ALPHA),
        PHONES[CONTACT],
        letter.text,
    ]
    env = environment(parts.simulator.host_environment())
    running = asyncio.create_task(run(argv, env, parts.root, _PLAIN_TIMEOUT_S))
    try:
        await letters.arrival(letter, _SETTLE_TIMEOUT_S)
        body = {"to": PHONES[ALPHA], "text": "the contact answers it"}
        await parts.simulator.ask("POST", f"/contacts/{PHONES[CONTACT]}/send", body)
    except StandfastError:
        pass  # what it said tells more
    return await running
