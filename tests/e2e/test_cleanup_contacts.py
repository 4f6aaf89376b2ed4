"""Contacts of every kind after a cleanup of a state that has aged: real Baileys on both sides, the simulator between.

An aged state is made by moving its times back: nothing in Baileys looks at them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from standfast.authstate.company import company_id
from standfast.jobs.cleanup.report import CleanupReport, Policy
from standfast.jobs.cleanup.run import CleanupOptions
from standfast.jobs.verify.plan import Wish, plan
from standfast.jobs.verify.repair import run_repair
from standfast.postgres.pool import Statement
from standfast.service.cleaning import Cleaning
from standfast.service.job_context import service_context
from standfast.service.pre_keys import asks_sessions
from standfast.sessions.session import State
from tests.e2e.conftest import Line, until
from tests.verifying import above_info, context_of, verified

ACME = company_id("acme")
TOKEN_LID = "100000000000001"
TOKEN = b'{"token":{"type":"Buffer","data":"AAEC"},"timestamp":"%d"}' % (time.time() - 40 * 86_400)
INDEX = b'{"token":{"type":"Buffer","data":"WyIxMDAwMDAwMDAwMDAwMDFAbGlkIl0="}}'  # JSON: [TOKEN_LID@lid]


@dataclass
class Circle:
    """acme, bolt and acme's contacts, who have all talked to one another, alone and in a group; then time passed."""

    line: Line
    new_phone: Callable[[], str]
    contacts: dict[str, str] = field(default_factory=dict)
    group: str = ""

    async def meet(self) -> None:
        line = self.line
        await asyncio.gather(
            line.pair("acme", self.new_phone()),
            line.pair("bolt", self.new_phone()),
            *(self.add_contact(name) for name in ("writes", "hears", "both")),
        )
        for name in self.contacts:
            await self.hears_from(name, f"{name} greets")
            await self.tells(name, f"acme greets {name}")
        members = [line.phones["acme"], line.phones["bolt"], *self.contacts.values()]
        made = await line.simulator.ask("POST", "/groups", {"subject": "team", "participants": members})
        self.group = made["jid"]
        await self.group_hears("the group begins")
        for name in ("writes", "both"):
            await self.hears_from(name, f"{name} greets all", in_group=True)

    async def add_contact(self, name: str) -> None:
        self.contacts[name] = self.new_phone()
        await self.line.simulator.ask(
            "POST", "/contacts", {"phone": self.contacts[name], "behaviour": "silent"}
        )

    async def hears_from(self, name: str, text: str, *, in_group: bool = False) -> None:
        """A contact writes to acme, or to the group, and acme reads it."""
        await self.write(name, text, in_group=in_group)
        await self.line.received("acme", [text], timeout_s=10)

    async def write(self, name: str, text: str, *, in_group: bool = False) -> None:
        body = {"to": self.group if in_group else self.line.phones["acme"], "text": text}
        await self.line.simulator.ask("POST", f"/contacts/{self.contacts[name]}/send", body)

    async def tells(self, name: str, text: str) -> None:
        """acme writes to a contact, who reads it."""
        phone = self.contacts[name]
        await self.line.service.pool.send("acme", f"{phone}@s.whatsapp.net", {"text": text})
        await self.line.contact_received(phone, [text])

    async def group_hears(self, text: str) -> None:
        """acme writes to the group, and every other member reads it."""
        await self.line.service.pool.send("acme", self.group, {"text": text})
        await self.line.received("bolt", [text], timeout_s=10)
        groups = (await self.line.simulator.ask("GET", "/groups"))["groups"]
        members = next(one["participants"] for one in groups if one["jid"] == self.group)
        for phone in set(members) & set(self.contacts.values()):
            await self.line.contact_received(phone, [text])

    async def age(self, days: Sequence[int] = (40, 90, 400)) -> None:
        """What acme has stored so far was last written so many days ago, each key one of them."""
        await self.settled()
        moved = "- (array[%s])[1 + abs(hashtext(key_id)) %% %s] * interval '1 day'"
        moved %= (", ".join(map(str, days)), len(days))
        await self.run(
            f"update whatsapp_keys set updated_at = updated_at {moved}, created_at = created_at {moved}"
            " where company_id = 'acme'"
        )

    async def settled(self) -> None:
        """PostgreSQL has everything that acme has written."""
        holdings = self.line.service.vault.holdings
        await until(lambda: all(one.pending == 0 for one in holdings()), "PostgreSQL has every write")

    async def run(self, sql: str) -> list[tuple[Any, ...]]:
        return await self.line.service.database.fetch(Statement("test", sql))

    async def rows(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """Every column of acme's keys; the list of messages that are being taken goes by itself."""
        await self.settled()
        found = await self.run(
            "select key_type, key_id, * from whatsapp_keys"
            " where company_id = 'acme' and key_type <> 'standfast-inbox'"
        )
        return {(row[0], row[1]): row[2:] for row in found}

    async def clean(self, policy: Policy) -> CleanupReport:
        """As the service does it; what went."""
        return await self.cleaning.clean(CleanupOptions(policy, force=True))

    @property
    def cleaning(self) -> Cleaning:
        one = self.line.service
        node = one.vault.replica.node
        made = partial(service_context, one.settings, one.database, one.alerts, node)
        return Cleaning(one.vault, made, asks_sessions(one.pool))

    async def deaf_to(self, name: str, text: str) -> None:
        """A new contact writes to acme, which does not hear it before it is connected anew, though WhatsApp answers
        what it asks: the message waits, encrypted to a pre-key that was handed out for it."""
        await self.line.simulator.ask("POST", "/faults", {"kind": "deaf", "phone": self.line.phones["acme"]})
        await self.add_contact(name)
        await self.write(name, text)

    async def cost(self, work: Awaitable[None]) -> int:
        """How many messages had to be sent again while that was done."""
        before = await self.line.retries()
        await work
        return await self.line.retries() - before


@pytest.fixture
async def circle(line: Line, new_phone: Callable[[], str]) -> Circle:
    made = Circle(line, new_phone)
    await made.meet()
    await made.settled()
    assert above_info(await verified(line.service)) == []
    return made


async def test_contacts_of_every_kind_still_work_after_a_safe_cleanup(circle: Circle) -> None:
    """An idle contact writes and is written to, a new one uses a pre-key from before, a group goes on, old members and
    new ones; while the session runs, after it was started anew, and after the whole service was. Nothing is lost; also
    not what comes on a pre-key that WhatsApp struck off its list a month ago: that costs a retry."""
    line = circle.line
    await line.service.vault.set_keys(ACME, {"tctoken": {"__index": INDEX, f"{TOKEN_LID}@lid": TOKEN}})
    await circle.age()
    before = await circle.rows()
    report = await circle.clean("safe")
    after = await circle.rows()
    assert report.removed == Counter(key_type for key_type, _ in before.keys() - after.keys())
    assert report.removed.keys() == {"session", "sender-key-memory", "tctoken"}
    assert after == {name: row for name, row in before.items() if name in after}

    assert await circle.cost(circle.hears_from("writes", "while it runs")) <= 1
    assert await circle.cost(circle.tells("hears", "to one while it runs")) <= 1
    assert await circle.cost(circle.group_hears("to all while it runs")) == 0

    await circle.age()
    await circle.deaf_to("new", "on a pre-key from before")
    assert "pre-key" not in (await circle.clean("safe")).removed
    await line.service.pool.restart(ACME)

    async def the_new_one() -> None:
        await line.received("acme", ["on a pre-key from before"])
        await circle.tells("new", "welcome")

    assert await circle.cost(the_new_one()) == 0
    assert await circle.cost(circle.hears_from("writes", "to all, from one known there", in_group=True)) == 0
    assert await circle.cost(circle.hears_from("writes", "after long silence")) <= 1
    assert await circle.cost(circle.tells("writes", "answered")) == 0
    assert await circle.cost(circle.tells("hears", "after long silence, to one")) <= 1
    assert await circle.cost(circle.hears_from("hears", "answered by one")) == 0
    assert await circle.cost(circle.hears_from("hears", "to all, from one new there", in_group=True)) <= 1
    assert await circle.cost(circle.group_hears("to all, after long silence")) <= 1
    added = {"participants": [circle.contacts["new"]]}
    await line.simulator.ask("POST", f"/groups/{circle.group}/participants", added)
    assert await circle.cost(circle.group_hears("to all, a new one among them")) == 0
    assert await circle.cost(circle.hears_from("new", "to all, from the new one", in_group=True)) == 0

    await circle.deaf_to("late", "on a pre-key that nobody has handed out for a month")
    await circle.clean("safe")
    await circle.run("update standfast_unlisted_pre_keys set since = since - interval '31 days'")
    assert (await circle.clean("safe")).removed["pre-key"] >= 1
    await line.restart()
    assert (
        await circle.cost(line.received("acme", ["on a pre-key that nobody has handed out for a month"])) >= 1
    )
    await line.state("acme", State.OPEN)
    await line.state("bolt", State.OPEN)
    await circle.tells("writes", "after a restart")
    await circle.hears_from("both", "from one after a restart")
    await circle.group_hears("to all after a restart")
    assert {text for text in line.texts("acme") if line.texts("acme").count(text) > 1} == set()
    await circle.settled()
    assert above_info(await verified(line.service)) == []
    await _spoilt_sessions_are_repaired(circle)


async def _spoilt_sessions_are_repaired(circle: Circle) -> None:
    """Every session record of acme is broken in the store; after a repair and a restart both sides hear each other."""
    line = circle.line
    service = line.service
    sessions = service.vault.replica.everything(service.vault.held.adopt(ACME).number).keys["session"]
    await service.vault.set_keys(ACME, {"session": dict.fromkeys(sessions, b'{"version":"v1"}')})
    await circle.settled()
    found = await verified(service)
    assert [one.kind for one in above_info(found)] == ["session-damaged"]
    ids = [one.finding.id for one in plan(found, Wish())]
    done = await run_repair(context_of(service), service.vault, {"acme": ids})
    assert (done.removed, done.running) == ({"acme": len(sessions)}, ["acme"])
    await service.pool.restart(ACME)
    await line.state("acme", State.OPEN)
    await circle.tells("writes", "after a repair")
    await circle.hears_from("writes", "answered after a repair")
    await circle.settled()
    assert above_info(await verified(service)) == []


async def test_a_legacy_cleanup_breaks_contacts_and_its_undo_mends_them(circle: Circle) -> None:
    """What the safe policy spares is what contacts need: without it a new contact's first message and a group's do not
    decrypt; put back, exactly as it was, both do."""
    line = circle.line
    await circle.age()
    before = await circle.rows()
    await circle.deaf_to("new", "on a pre-key that is gone")
    run = (await circle.clean("legacy")).run
    await line.service.pool.restart(ACME)
    assert await circle.cost(line.received("acme", ["on a pre-key that is gone"])) >= 1
    assert await circle.cost(circle.hears_from("writes", "without its key", in_group=True)) >= 1

    without = await circle.rows()
    undone = await circle.cleaning.put_back(run, None)
    mended = await circle.rows()
    assert undone.restored == len(mended.keys() - without.keys()) > 800
    assert mended == {name: without.get(name) or before[name] for name in mended}
    await line.service.pool.restart(ACME)
    await line.state(ACME, State.OPEN)
    await circle.add_contact("newer")
    assert await circle.cost(circle.hears_from("newer", "on a pre-key that is back")) == 0
    assert await circle.cost(circle.hears_from("both", "with its key", in_group=True)) == 0
    assert await circle.cost(circle.hears_from("hears", "with a session that is back")) == 0
