"""Phases 4 and 5: what happens past the grace period, and who is told.

Invariant: the end of the grace period is measured by what it does: sessions that were opened anew are no longer.
"""

from __future__ import annotations

import asyncio
import itertools
import time

from standfast.drill.correspondence import ALPHA, BRAVO, CONTACT
from standfast.drill.receiver import CHANNELS
from standfast.drill.rehearsal import OPEN_TIMEOUT_S, Rehearsal
from standfast.drill.waiting import until
from standfast.errors import DrillFailed

_OPEN = "open"
_FIRST_PROBE = 0.75  # of the grace period
_TOLD_TIMEOUT_S = 15.0
_COOLDOWNS_S = {"outage_began": 60.0, "grace_half_used": 300.0, "grace_expired": 300.0}


async def expiry(rehearsal: Rehearsal) -> None:
    """An outage that outlasts the grace period."""
    plan, notebook = rehearsal.plan, rehearsal.notebook
    kind = plan.kinds[0]
    notebook.doing(f"an outage that outlasts the grace period of {plan.grace_s:g} s")
    await rehearsal.begin_outage(kind)
    await rehearsal.rest_until(plan.grace_s * _FIRST_PROBE)
    expired_s, why = await _first_refusal(rehearsal)
    notebook.moment("state", f"refused: {why}", subject=BRAVO)
    off_s = abs(expired_s - plan.grace_s)
    notebook.counted("the grace period's end is off by at most", off_s, plan.tolerance_s, "s")
    await rehearsal.rest_until(plan.grace_s + plan.beyond_s)
    bravo, alpha = await rehearsal.session(BRAVO), await rehearsal.session(ALPHA)
    notebook.holds(
        "opening anew past the grace period",
        "refused: past the grace period",
        f"{bravo.state}: {(bravo.reason or '').rpartition('; ')[2]}",
        ok=not bravo.is_open and _is_expired(bravo.reason),
    )
    notebook.holds("a session that is open stays so", "open", alpha.state, ok=alpha.is_open)
    for sender, receiver in ((ALPHA, CONTACT), (CONTACT, ALPHA)):
        await rehearsal.letters.send(sender, receiver)
    await rehearsal.letters.arrivals()
    notebook.counted("messages lost past the grace period", len(rehearsal.letters.lost()), 0)
    await rehearsal.end_outage(kind)
    await rehearsal.sessions_open(timeout_s=60.0)
    notebook.moment("state", "connected again by itself", subject=BRAVO)


async def _first_refusal(rehearsal: Rehearsal) -> tuple[float, str]:
    """How old the outage was when a session could not be opened anew for the first time, and why."""
    plan = rehearsal.plan
    deadline = rehearsal.outage_at + plan.grace_s + plan.tolerance_s + plan.beyond_s
    while time.monotonic() < deadline:
        tried = time.monotonic()
        await rehearsal.service.client.restart(BRAVO)
        refusal = await until(lambda: _settled(rehearsal), f"{BRAVO} was open, or refused", OPEN_TIMEOUT_S)
        if refusal != _OPEN:
            return time.monotonic() - rehearsal.outage_at, refusal
        await asyncio.sleep(max(0.0, plan.probe_s - (time.monotonic() - tried)))
    raise DrillFailed(f"sessions are still opened anew {plan.grace_s + plan.tolerance_s:g} s into the outage")


async def _settled(rehearsal: Rehearsal) -> str | None:
    """`_OPEN`, why it is refused, or None as long as neither is known."""
    session = await rehearsal.session(BRAVO)
    if session.is_open:
        return _OPEN
    return session.reason if _is_expired(session.reason) else None


def _is_expired(reason: str | None) -> bool:
    return "grace period" in (reason or "")


async def alerts(rehearsal: Rehearsal) -> None:
    """Each channel has told of the outage, of its grace period, and of its end; and none of them too often."""
    receiver, notebook = rehearsal.parts.receiver, rehearsal.notebook
    notebook.doing("alerts")
    expected = ["outage_began"]
    if 4 in rehearsal.plan.phases:
        expected += ["grace_half_used", "grace_expired"]

    async def all_told() -> bool:
        ended = all(receiver.about("outage_began", channel, end=True) for channel in CHANNELS)
        return ended and all(receiver.about(name, channel) for name in expected for channel in CHANNELS)

    try:
        await until(all_told, "everybody was told", _TOLD_TIMEOUT_S)
    except DrillFailed:
        notebook.moment("note", "not everybody was told in time")
    for name in expected:
        _judge(rehearsal, name)
    for channel in CHANNELS:
        ends = len(receiver.about("outage_began", channel, end=True))
        notebook.holds(f"{channel} is told that it is over", "told", f"{ends} times", ok=ends > 0)


def _judge(rehearsal: Rehearsal, name: str) -> None:
    notebook, receiver = rehearsal.notebook, rehearsal.parts.receiver
    for channel in CHANNELS:
        heard = receiver.about(name, channel)
        apart_s = [after.at - before.at for before, after in itertools.pairwise(heard)]
        notebook.holds(
            f"{channel} is told: {name}",
            "told, not within its cooldown again",
            f"{len(heard)} times",
            ok=bool(heard) and all(apart >= _COOLDOWNS_S[name] * 0.9 for apart in apart_s),
        )
