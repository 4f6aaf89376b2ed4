"""Sessions that one living node gives to another, as before an upgrade."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from standfast.authstate.company import Company
from standfast.errors import SessionNotOpen, from_wire
from standfast.node import bridge_directory, node_binary
from standfast.postgres.options import DatabaseOptions
from standfast.service.handover import HandoverOptions
from standfast.service.simulator import Simulator
from standfast.sessions.session import State
from tests.e2e.conftest import Line, make_line, shares_loop, until

QUICK = HandoverOptions(look_s=0.1, awaited_within_s=0.5, taken_within_s=0.5)
# Measured: a tenth of a second, and 0.3 s until it is open at the other node; machines that run tests are busy.
DEAF_LIMIT_S = 5.0
PHONE, CONTACT = "79990310001", "79990310002"


@dataclass
class Nodes:
    """Two nodes on one database; acme is open at `one`, and a contact talks to it all the time."""

    one: Line
    two: Line

    def numbers(self) -> list[int]:
        """Those of the contact's messages that either node has taken."""
        texts = self.one.texts("acme") + self.two.texts("acme")
        return [int(text.removeprefix("message ")) for text in texts if text.startswith("message ")]

    async def nothing_is_missing(self) -> None:
        """Twenty more messages come, and until then each came once."""
        target = len(self.numbers()) + 20
        await until(
            lambda: len(self.numbers()) >= target, lambda: f"{target}, not {len(self.numbers())} messages"
        )
        numbers = self.numbers()
        assert sorted(numbers) == list(range(1, len(numbers) + 1))

    async def hand_over(self, giver: Line, *args: str) -> dict[str, Any]:
        """What `standfast handover` answers, an error as its class."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "standfast", "handover", "--json", "--yes", *args),
            env={**os.environ, "STANDFAST_STATE_DIR": str(giver.settings.state_dir)},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30.0)
        answer: dict[str, Any] = json.loads(out)
        assert (process.returncode == 0) == ("error" not in answer)
        if "error" in answer:
            raise from_wire(answer["error"])
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(module_database: DatabaseOptions) -> AsyncIterator[Nodes]:
    states = [Path(tempfile.mkdtemp(prefix="sf-")) for _ in range(3)]
    simulator = Simulator(states[2], node_binary(), bridge_directory())
    await simulator.start()
    lines = []
    for name, state in zip(("one", "two"), states, strict=False):
        line = make_line(state, simulator, module_database, node_name=name)
        line.options = replace(line.options, handover=QUICK)
        lines.append(line)
    await asyncio.gather(*(line.start() for line in lines))
    try:
        await lines[0].pair("acme", PHONE)
        talking = {"phone": CONTACT, "behaviour": "talk", "peer": PHONE, "interval_ms": 20}
        await simulator.ask("POST", "/contacts", talking)
        yield Nodes(*lines)
    finally:
        await asyncio.gather(*(line.stop() for line in lines))
        await simulator.stop()
        for state in states:
            shutil.rmtree(state, ignore_errors=True)


@shares_loop
async def test_a_session_goes_over_and_back_without_a_lost_message(nodes: Nodes) -> None:
    """Each message that comes before, during and after arrives once, at one of the nodes. Nobody is evicted, and the
    node that gave the session accepts nothing for it any more."""
    for giver, taker, name in ((nodes.one, nodes.two, "two"), (nodes.two, nodes.one, "one")):
        answer = await nodes.hand_over(giver)
        assert answer["to"] == name
        assert answer["closed_s"]["acme"] < DEAF_LIMIT_S
        await taker.state("acme", State.OPEN)
        assert giver.session("acme").state is State.CLOSED
        with pytest.raises(SessionNotOpen, match=f"is at the node {name}"):
            await giver.service.messenger.send("acme", f"+{CONTACT}", {"type": "text", "text": "late"})
        await nodes.nothing_is_missing()
    states = {data["state"] for line in (nodes.one, nodes.two) for data in line.events("acme", "state")}
    assert "replaced" not in states


@shares_loop
@pytest.mark.parametrize("fault", ["no answer", "not taken"])
async def test_what_is_not_taken_runs_on_where_it_was(
    nodes: Nodes, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that does not answer the offer changes nothing; where one awaits a session and then does not take it, it
    is opened again where it was."""

    async def look() -> bool:
        return False

    async def take(company: Company) -> None:
        return None

    taking = nodes.two.service._handover
    before = nodes.one.session("acme").generation
    if fault == "no answer":
        monkeypatch.setattr(taking, "_look", look)
        message = "did not answer the offer"
    else:
        monkeypatch.setattr(taking, "_take", take)
        message = "did not take acme in time"
    with pytest.raises(Exception, match=f"1 of 1 sessions stay here .acme.: .*{message}"):
        await nodes.hand_over(nodes.one, "--to", "two", "--company", "acme")
    session = await nodes.one.state("acme", State.OPEN)
    assert session.generation == before + (fault == "not taken")
    await nodes.nothing_is_missing()
