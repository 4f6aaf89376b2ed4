"""Messages between paired companies, end to end: none lost, none twice, in order."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.e2e.conftest import DistantProxy, Line, acquainted, shares_loop, until


async def test_two_companies_pair_by_qr_and_talk(line: Line, new_phone: Callable[[], str]) -> None:
    """Pairing goes through 515 to open, and a text arrives both ways."""
    await line.pair("acme", new_phone())
    await line.pair("bolt", new_phone())
    assert any(e.kind == "closed" and e.data["status"] == 515 for e in line.heard)
    await line.send("acme", "bolt", "hello")
    await line.received("bolt", ["hello"])
    await line.send("bolt", "acme", "hello yourself")
    await line.received("acme", ["hello yourself"])


@shares_loop
async def test_five_hundred_messages_both_ways_at_once(shared_pair: Line) -> None:
    """250 each way at once arrive, all decrypted, none twice, in the order in which they were sent."""
    line, since, retries = shared_pair, len(shared_pair.heard), await shared_pair.retries()
    to_bolt = [f"to bolt {n}" for n in range(250)]
    to_acme = [f"to acme {n}" for n in range(250)]
    sent = [line.send("acme", "bolt", text) for text in to_bolt]
    sent += [line.send("bolt", "acme", text) for text in to_acme]
    ids = await asyncio.gather(*sent)
    await line.received("bolt", to_bolt)
    await line.received("acme", to_acme)
    assert len(set(ids)) == 500
    assert line.texts("bolt", since) == to_bolt
    assert line.texts("acme", since) == to_acme
    assert await line.retries() == retries


async def test_random_timing_both_ways_loses_nothing(proxied_line: Line, proxy: DistantProxy) -> None:
    """Sending while receiving, with random pauses and a database 10 ms away, steps no ratchet back: no retry,
    nothing undecryptable."""
    line = await acquainted(proxied_line)
    proxy.delay_s = 0.005

    async def talk(sender: str, receiver: str) -> list[str]:
        texts = [f"{sender} says {n}" for n in range(100)]
        for text in texts:
            await line.send(sender, receiver, text)
            await asyncio.sleep(random.uniform(0, 0.02))
        return texts

    from_acme, from_bolt = await asyncio.gather(talk("acme", "bolt"), talk("bolt", "acme"))
    await line.received("bolt", from_acme)
    await line.received("acme", from_bolt)
    assert line.texts("bolt")[1:] == from_acme
    assert line.texts("acme")[1:] == from_bolt
    await _undisturbed(line, "acme", "bolt")


async def test_a_hundred_messages_in_a_group(line: Line, new_phone: Callable[[], str]) -> None:
    """In a group of three, each message of each member is decrypted once by both others, in order per sender."""
    members = ["acme", "bolt", "cargo"]
    for company in members:
        await line.pair(company, new_phone())
    group = (await line.simulator.ask("POST", "/groups", _group(line, members)))["jid"]
    # Sender keys are dealt out with a member's first message; one member after the other.
    expected: dict[str, list[str]] = {sender: [f"{sender} 0"] for sender in members}
    for sender in members:
        await line.service.pool.send(sender, group, {"text": f"{sender} 0"})
        for other in set(members) - {sender}:
            await line.received(other, [f"{sender} 0"])
    for sender, more in zip(members, (33, 32, 32), strict=True):
        expected[sender] += [f"{sender} {n}" for n in range(1, more + 1)]
    assert sum(map(len, expected.values())) == 100
    await asyncio.gather(
        *(
            line.service.pool.send(sender, group, {"text": text})
            for sender in members
            for text in expected[sender][1:]
        )
    )
    for company in members:
        for sender in set(members) - {company}:
            await line.received(company, expected[sender])
            assert [t for t in line.texts(company) if t.startswith(sender)] == expected[sender]
        chats = {data["message"]["chat"] for data in line.events(company, "message")}
        assert chats == {group}
    await _undisturbed(line, *members)


async def test_an_echoing_contact_answers(line: Line, new_phone: Callable[[], str]) -> None:
    """A contact of the simulator, a Baileys client of its own, answers a company; receipts say what became of it."""
    contact = new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "echo"})
    await line.pair("acme", new_phone())
    sent = await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "anybody there?"})
    await line.received("acme", ["echo: anybody there?"])
    receipts = {"sent", "delivered"}
    await until(
        lambda: (
            receipts
            <= {r["status"] for r in line.events("acme", "receipt") if r["message_id"] == sent["message_id"]}
        ),
        "receipts of the message",
    )
    (message,) = [data["message"] for data in line.events("acme", "message")]
    assert contact in {_user(message["chat"]), _user(message.get("chat_alt") or "")}
    assert message["live"]
    assert not message["from_me"]


@shares_loop
async def test_a_message_delivered_twice_is_handed_over_once(shared_pair: Line) -> None:
    """The server may send a stanza twice; the host hands its message over once, and the chat goes on."""
    line, since = shared_pair, len(shared_pair.heard)
    fault = {"kind": "duplicate", "phone": line.phones["bolt"]}
    await line.simulator.ask("POST", "/faults", fault)
    texts = [f"copied {n}" for n in range(10)]
    for text in texts:
        await line.send("acme", "bolt", text)
    await line.received("bolt", texts)
    await line.simulator.ask("DELETE", "/faults")
    await line.send("acme", "bolt", "the last")
    await line.received("bolt", ["the last"])
    doubles = {text: count for text, count in Counter(line.texts("bolt", since)).items() if count > 1}
    assert not doubles


def _group(line: Line, members: list[str]) -> dict[str, Any]:
    return {"subject": "team", "participants": [line.phones[company] for company in members]}


def _user(jid: str) -> str:
    return re.split("[:@]", jid, maxsplit=1)[0]


async def _undisturbed(line: Line, *companies: str) -> None:
    """Nothing had to be sent again to be decrypted."""
    for company in companies:
        assert line.events(company, "undecryptable") == []
        ids = [data["message"]["id"] for data in line.events(company, "message")]
        assert len(ids) == len(set(ids))
    assert await line.retries() == 0
