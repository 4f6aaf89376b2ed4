"""The drill on a running installation: real Baileys, the simulator, one company's outage and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from standfast.drill.here import drill_here
from standfast.drill.here_plan import HerePlan, plan_here
from standfast.errors import Conflict, SessionNotOpen, UsageError
from standfast.jobs.progress import Silent
from standfast.service.client import Client, connect
from standfast.vault.outage import State
from tests.e2e.conftest import Line, shares_loop, until

OUTAGE_S = 0.6
TIMEOUT_S = 20.0


def pending(line: Line, company: str) -> int:
    """Batches that PostgreSQL does not have."""
    return next((one.pending for one in line.service.vault.holdings() if one.company == company), 0)


async def planned(line: Line, client: Client, contact: str | None) -> HerePlan:
    return await plan_here(client, line.settings, "acme", contact, OUTAGE_S)


@shares_loop
async def test_one_company_has_an_outage_and_the_other_none(
    shared_pair: Line, new_phone: Callable[[], str]
) -> None:
    """Its messages arrive once, its restart opens from the replica, its writes wait and then are in PostgreSQL; the
    other one's session is the same as before, and its writes go to PostgreSQL all the while."""
    line, phone = shared_pair, new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": phone})
    before = line.session("bolt").generation
    held: list[tuple[int, int]] = []

    class Watching(Silent):
        """Looks at the journals amid the outage."""

        def step(self, name: str, total: int | None = None, unit: str = "") -> None:
            if name.startswith(("message 2", "the session", "message 3")):
                held.append((pending(line, "acme"), pending(line, "bolt")))

    async with connect(line.service.gateway.path) as client:
        record = await drill_here(client, await planned(line, client, phone), line.settings, Watching())
    assert record.passed, [row for row in (*record.acceptance, *record.performance) if row.status == "fail"]
    assert [phase.status for phase in record.phases] == [
        "pass",
        "skipped",
        "pass",
        "pass",
        "skipped",
        "pass",
        "pass",
    ]
    assert (record.messages_sent, record.messages_lost, record.here) == (3, 0, True)
    assert record.rto_s is not None
    assert all(row.why for row in (*record.acceptance, *record.performance) if row.status == "skipped")
    answer = await line.simulator.ask("GET", f"/contacts/{phone}/messages?after=0")
    texts = [message["text"] for message in answer["messages"]]
    assert len(texts) == len(set(texts)) == 3
    assert line.session("bolt").generation == before
    assert min(acme for acme, _ in held) > 0
    assert min(bolt for _, bolt in held) == 0
    await until(lambda: pending(line, "acme") == 0, "acme's journal in PostgreSQL")
    assert not list(line.settings.state_dir.glob("drill-*"))


@shares_loop
async def test_it_ends_by_itself(shared_pair: Line) -> None:
    """With its deadline, with the connection of who began it, and as soon as the outage is real; a second one at once
    is refused. What was held back is in PostgreSQL after each."""
    line = shared_pair

    async def standing(client: Client) -> dict[str, Any]:
        found: dict[str, Any] = await client.job("drill.standing", {"company": "acme"}, TIMEOUT_S)
        return found

    async def over(client: Client) -> str:
        async def ended() -> bool:
            return not (await standing(client))["rehearsed"]

        await until(ended, "the end of the rehearsal")
        await until(lambda: pending(line, "acme") == 0, "the journal in PostgreSQL")
        return str((await standing(client))["ended"])

    async with connect(line.service.gateway.path) as client:
        await client.job("drill.begin", {"company": "acme", "for_s": 0.3}, TIMEOUT_S)
        with pytest.raises(Conflict, match="already"):
            await client.job("drill.begin", {"company": "bolt", "for_s": 5}, TIMEOUT_S)
        await line.send("acme", "bolt", "amid a rehearsal")
        assert await over(client) == "its deadline has passed"
        async with connect(line.service.gateway.path) as other:
            await other.job("drill.begin", {"company": "acme", "for_s": 60}, TIMEOUT_S)
        assert await over(client) == "who began it has left"
        await client.job("drill.begin", {"company": "acme", "for_s": 60}, TIMEOUT_S)
        vault = line.service.vault
        vault.detach(Conflict("made up"))
        try:
            assert not (await standing(client))["rehearsed"]
            with pytest.raises(Conflict, match="no time"):
                await client.job("drill.begin", {"company": "acme", "for_s": 5}, TIMEOUT_S)
        finally:
            vault.rejoin()
        await until(lambda: vault.outage.state is State.ONLINE, "PostgreSQL to count again")


@shares_loop
async def test_what_would_touch_others_is_refused(shared_pair: Line) -> None:
    """No company named, one that is not open here, a contact that another company of this installation is."""
    line = shared_pair
    async with connect(line.service.gateway.path) as client:
        with pytest.raises(UsageError, match="needs a test company"):
            await plan_here(client, line.settings, None, None, OUTAGE_S)
        with pytest.raises(SessionNotOpen):
            await plan_here(client, line.settings, "nobody", None, OUTAGE_S)
        with pytest.raises(Conflict, match="the contact is bolt"):
            await planned(line, client, line.phones["bolt"])
        plan = await planned(line, client, None)
    assert plan.own
    assert line.phones["acme"] not in plan.told + repr(plan)
