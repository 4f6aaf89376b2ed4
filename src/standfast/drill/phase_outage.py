"""Phases 2 and 3: outages of every kind, a restart in the first, and what comes after.

Invariant: nothing but PostgreSQL is touched while an outage lasts, but for the one restart, which SIGKILL begins.
"""

from __future__ import annotations

import time

from standfast.drill.correspondence import ALPHA, CONTACT
from standfast.drill.outages import WORDS
from standfast.drill.rehearsal import Rehearsal

FALLBACK_LIMIT_S = 1.0
RESTART_LIMIT_S = 2.0
RECOVERY_LIMIT_S = 10.0
LEGACY_RESTART = "40 s"
_RESTART_AT = 1 / 4


async def outages(rehearsal: Rehearsal) -> None:
    """Short outages of the other kinds, each with its end; then the first kind, which goes on afterwards."""
    plan, notebook = rehearsal.plan, rehearsal.notebook
    long, *short = plan.kinds
    async with rehearsal.uptime.sampling():
        for kind in short:
            await _short(rehearsal, kind)
        await _long(rehearsal, long)
    notebook.took(
        "fallback, from the failure to a message that arrived", max(rehearsal.fallbacks_s), FALLBACK_LIMIT_S
    )
    notebook.counted(
        "uptime of the sessions in the outages", rehearsal.uptime.percent, 100.0, "%", least=True
    )


async def restoration(rehearsal: Rehearsal) -> None:
    """Saves resume: PostgreSQL has what the vault has."""
    notebook = rehearsal.notebook
    await rehearsal.end_outage(rehearsal.plan.kinds[0])
    keys, apart = await rehearsal.keys_apart()
    rehearsal.saves_are_whole(keys, apart, "after the outages PostgreSQL has every write")
    await rehearsal.letters.round()
    await rehearsal.letters.arrivals()
    keys, apart = await rehearsal.keys_apart()
    rehearsal.saves_are_whole(keys, apart, "saves resume")
    notebook.took("recovery, until PostgreSQL has everything", max(rehearsal.recoveries_s), RECOVERY_LIMIT_S)
    notebook.counted("messages lost in the outages", len(rehearsal.letters.lost()), 0)


async def _short(rehearsal: Rehearsal, kind: str) -> None:
    notebook, duration_s = rehearsal.notebook, rehearsal.plan.short_outage_s
    notebook.doing(f"an outage: {kind}")
    await rehearsal.begin_outage(kind)
    await rehearsal.fall_back()
    await _noticed(rehearsal, kind)
    for share in (2 / 3, 1.0):
        await rehearsal.rest_until(duration_s * share)
        await rehearsal.letters.round()
    await rehearsal.letters.arrivals()
    await rehearsal.end_outage(kind)


async def _long(rehearsal: Rehearsal, kind: str) -> None:
    notebook, duration_s = rehearsal.notebook, rehearsal.plan.outage_s
    notebook.doing(f"an outage: {kind}")
    await rehearsal.begin_outage(kind)
    await rehearsal.fall_back()
    await rehearsal.letters.round()
    await _noticed(rehearsal, kind)
    await rehearsal.rest_until(duration_s * _RESTART_AT)
    await _restart(rehearsal)
    for share in (2 / 3, 1.0):
        notebook.doing(f"an outage: {kind}")
        await rehearsal.rest_until(duration_s * share)
        await rehearsal.letters.round()
    await rehearsal.letters.arrivals()


async def _noticed(rehearsal: Rehearsal, kind: str) -> None:
    said = await rehearsal.noticed()
    rehearsal.notebook.holds(f"an outage is noticed: {kind}", WORDS[kind], said, ok=bool(said))


async def _restart(rehearsal: Rehearsal) -> None:
    """SIGKILL, and a start; a message comes in between."""
    notebook = rehearsal.notebook
    notebook.doing("a restart in the outage")
    with rehearsal.uptime.excused():
        await rehearsal.service.kill()
        await rehearsal.letters.send(CONTACT, ALPHA)
        began, began_s = time.monotonic(), notebook.now()
        await rehearsal.service.start()
        await rehearsal.sessions_open()
        notebook.rto_s = time.monotonic() - began
    notebook.moment("restart", "killed and started again", since=began_s)
    notebook.took(
        "restart to connected, in the outage", notebook.rto_s, RESTART_LIMIT_S, legacy=LEGACY_RESTART
    )
