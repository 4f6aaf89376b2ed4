"""How a drill is scaled and judged."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from standfast.drill.correspondence import COMPANIES
from standfast.drill.notebook import Notebook
from standfast.drill.plan import KINDS, Plan, plan_of
from standfast.drill.receiver import Receiver
from standfast.drill.telling import failures
from standfast.drill.uptime import Uptime
from standfast.drill.waiting import until
from standfast.errors import DrillFailed, ServiceUnavailable, UsageError
from standfast.jobs.progress import Silent
from standfast.service.records import Session
from standfast.settings import Settings


def _notebook(**changes: Any) -> Notebook:
    return Notebook(plan_of(fast=True, **changes), Silent(), "n1")


def test_a_fast_drill_says_what_it_has_shorter() -> None:
    """Each clock that is not a full drill's is told, and the settings are ones that the product takes."""
    fast, full = plan_of(fast=True), plan_of(fast=False)
    assert full.scaled == {}
    for name, value in fast.settings().items():
        asked, used = fast.scaled[name]
        assert used < asked
        assert used * 1000 == int(value)
    assert (fast.scaled["outage of the first kind"], full.outage_s) == ((180.0, 6.0), 180.0)
    given = {**fast.settings(), "STANDFAST_STATE_DIR": "/tmp/x"}
    assert Settings.model_validate(given).credentials_cache_ttl_ms == fast.grace_s * 1000


@pytest.mark.parametrize("bad", [{"kinds": ["refused", "fire"]}, {"kinds": []}, {"phases": [7]}])
def test_what_there_is_not_is_refused(bad: dict[str, Any]) -> None:
    """A kind or phase that there is not is named, before anything is started."""
    with pytest.raises(UsageError):
        plan_of(fast=True, **bad)


def test_phases_can_be_chosen() -> None:
    """What everything stands on is never left out."""
    plan = plan_of(fast=True, phases=[4])
    assert [number for number in range(7) if plan.wants(number)] == [0, 1, 4]
    assert Plan().kinds == KINDS


async def test_a_criterion_that_does_not_hold_fails_its_phase_and_the_drill() -> None:
    """By a hair, in either table; and the error names it."""
    notes = _notebook()
    async with notes.written(0):
        notes.counted("messages lost", 0, 0)
        notes.counted("uptime", 100.0, 100.0, "%", least=True)
        notes.took("restart", 1.99, 2.0)
    assert notes.record(3, 0).passed
    judges: list[Callable[[Notebook], None]] = [
        lambda notes: notes.counted("messages lost", 1, 0),
        lambda notes: notes.counted("uptime", 99.9, 100.0, "%", least=True),
        lambda notes: notes.took("restart", 2.0, 2.0),
        lambda notes: notes.holds("opening", "refused", "open", ok=False),
    ]
    for judge in judges:
        notes = _notebook()
        async with notes.written(0):
            judge(notes)
        record = notes.record(3, 1)
        assert record.phases[0].status == "fail"
        assert not record.passed
        assert [*record.acceptance, *record.performance][0].name in failures(record)[0]


async def test_a_phase_that_is_cut_short_fails_and_later_ones_are_skipped() -> None:
    """With the reason; what was not asked for is not said to have been cut."""
    notes = _notebook(phases=[2, 3])
    with pytest.raises(DrillFailed):
        async with notes.written(1):
            raise DrillFailed("no pairing")
    record = notes.record(0, 0)
    rows = {phase.number: (phase.status, phase.why) for phase in record.phases}
    assert rows[1] == ("fail", "no pairing")
    assert rows[2] == ("skipped", "phase 1 did not come to its end")
    assert rows[4] == ("skipped", "not asked for")
    assert not record.passed


class _Sessions:
    """A service whose sessions are as told; None: it is gone."""

    def __init__(self) -> None:
        self.found: list[Session] | None = _open()

    async def sessions(self) -> list[Session]:
        if self.found is None:
            raise ServiceUnavailable("gone")
        return self.found


def _open(*, generation: int = 1) -> list[Session]:
    return [Session(company=company, state="open", generation=generation) for company in COMPANIES]


@pytest.mark.parametrize(
    "after", [None, [], [*_open()[:1], Session(company=COMPANIES[1], state="closed")], _open(generation=2)]
)
async def test_a_session_that_does_not_stand_costs_uptime(after: list[Session] | None) -> None:
    """Gone, closed, or connected anew between two samples; but not what the drill itself has killed."""
    service = _Sessions()
    uptime = Uptime(service, 0.001)  # type: ignore[arg-type]
    async with uptime.sampling():
        await asyncio.sleep(0.01)
        with uptime.excused():
            service.found = None
            await asyncio.sleep(0.01)
            service.found = _open()
        await asyncio.sleep(0.01)
        assert uptime.percent == 100.0
        service.found = after
        await asyncio.sleep(0.01)
    assert 0 < uptime.percent < 100.0


async def test_the_receiver_tells_alerts_from_their_ends() -> None:
    """As Telegram and Sentry are told of them."""
    async with Receiver() as receiver, httpx.AsyncClient(trust_env=False) as client:
        telegram = f"{receiver.settings()['TELEGRAM_API_URL']}/botX/sendMessage"
        sentry = f"{receiver.settings()['TELEGRAM_API_URL']}/api/1/envelope/"
        await client.post(telegram, json={"text": "<b>Error: away</b>\r\n<b>Alert</b>: outage_began\r\n"})
        ended = "<b>Resolved: back</b>\r\n<b>Alert</b>: outage_began, grace_half_used\r\n"
        await client.post(telegram, json={"text": ended})
        await client.post(sentry, content=_envelope("outage_began", "raised"))
        await client.post(sentry, content=_envelope("outage_began, grace_half_used", "resolved"))
        await client.post(sentry, content=b"nonsense")
    for channel in ("telegram", "sentry"):
        assert len(receiver.about("outage_began", channel)) == 1
        assert len(receiver.about("grace_half_used", channel, end=True)) == 1
        assert not receiver.about("grace_half_used", channel)


def _envelope(names: str, state: str) -> bytes:
    lines = [{"event_id": "1"}, {"type": "event"}, {"tags": {"alert": names, "state": state}}]
    return gzip.compress("\n".join(map(json.dumps, lines)).encode())


async def test_a_wait_in_vain_names_what_was_waited_for() -> None:
    """With the last error of ours; any other is raised at once."""

    async def gone() -> bool:
        raise ServiceUnavailable("no service answers")

    with pytest.raises(DrillFailed, match="until it stood: no service answers"):
        await until(gone, "it stood", 0.01)

    async def broken() -> bool:
        raise KeyError(Path())

    with pytest.raises(KeyError):
        await until(broken, "it stood", 5)
