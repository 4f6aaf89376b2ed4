"""Kinds of messages between paired companies: what is sent through the messenger arrives as what it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from standfast.errors import NotFound, UsageError
from standfast.messaging.outgoing import Outgoing
from standfast.sessions.session import State
from tests.e2e.conftest import Line, shares_loop, until


async def _send(line: Line, sender: str, to: str, content: dict[str, Any]) -> Outgoing:
    sent = await line.service.messenger.send(sender, to, content, wait_s=20)
    assert sent.state.word in ("sent", "delivered", "read"), sent.error
    return sent


async def _got(line: Line, company: str, message_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        messages = (data["message"] for data in line.events(company, "message"))
        return next((message for message in messages if message["id"] == message_id), None)

    message: dict[str, Any] = await until(found, f"message {message_id} at {company}")
    return message


def _phone(line: Line, company: str) -> str:
    return "+" + line.phones[company]


@shares_loop
async def test_a_reply_quotes_and_mentions(shared_pair: Line) -> None:
    """A reply names the message that it answers, of either side; who is mentioned is told."""
    line, bolt, acme = shared_pair, _phone(shared_pair, "bolt"), _phone(shared_pair, "acme")
    asked = await _send(line, "acme", bolt, {"type": "text", "text": "how much?"})
    assert "reply_to" not in await _got(line, "bolt", asked.message_id)
    answer = {"type": "text", "text": "@you seven", "reply_to": asked.message_id, "mentions": [acme]}
    answered = await _send(line, "bolt", acme, answer)
    got = await _got(line, "acme", answered.message_id)
    assert (got["type"], got["text"], got["reply_to"]) == ("text", "@you seven", asked.message_id)
    assert got["mentions"] == [f"{line.phones['acme']}@s.whatsapp.net"]
    own = await _send(line, "acme", bolt, {"type": "text", "text": "please", "reply_to": asked.message_id})
    assert (await _got(line, "bolt", own.message_id))["reply_to"] == asked.message_id


@shares_loop
async def test_a_reaction_an_edit_and_a_deletion_name_their_message(shared_pair: Line) -> None:
    """A reaction to a received message, an edit and a deletion of an own one arrive with the id that they are about."""
    line, bolt, acme = shared_pair, _phone(shared_pair, "bolt"), _phone(shared_pair, "acme")
    sent = await _send(line, "acme", bolt, {"type": "text", "text": "draft"})
    received = await _got(line, "bolt", sent.message_id)
    liked = {"type": "reaction", "to": sent.message_id, "emoji": "👍"}
    # By phone number, and by the address that WhatsApp gave the chat.
    for to in (acme, received["chat"]):
        reaction = await _send(line, "bolt", to, liked)
        got = await _got(line, "acme", reaction.message_id)
        assert (got["type"], got["text"], got["target_id"]) == ("reaction", "👍", sent.message_id)
    edited = await _send(line, "acme", bolt, {"type": "edit", "to": sent.message_id, "text": "final"})
    got = await _got(line, "bolt", edited.message_id)
    assert (got["type"], got["text"], got["target_id"]) == ("edit", "final", sent.message_id)
    gone = await _send(line, "acme", bolt, {"type": "revoke", "to": sent.message_id})
    got = await _got(line, "bolt", gone.message_id)
    assert (got["type"], got["target_id"]) == ("revoke", sent.message_id)


@shares_loop
async def test_what_points_at_nothing_is_refused(shared_pair: Line) -> None:
    """A reply to an unknown message, or the edit of another's, is refused at once and nothing is sent."""
    line, bolt = shared_pair, _phone(shared_pair, "bolt")
    messenger = line.service.messenger
    theirs = await _send(line, "bolt", _phone(line, "acme"), {"type": "text", "text": "mine"})
    await _got(line, "acme", theirs.message_id)
    before = len(messenger.sent("acme"))
    for content in (
        {"type": "text", "text": "?", "reply_to": "3EB0000000000000000000"},
        {"type": "reaction", "to": "3EB0000000000000000000", "emoji": "👍"},
        {"type": "edit", "to": theirs.message_id, "text": "yours"},
        {"type": "revoke", "to": theirs.message_id},
        {"type": "text", "text": "?", "mentions": ["nobody"]},
    ):
        with pytest.raises(UsageError):
            await messenger.send("acme", bolt, content)
    assert len(messenger.sent("acme")) == before


@shares_loop
async def test_read_marks_reach_the_sender(shared_pair: Line) -> None:
    """Reading a chat tells the sender so, for what came since the last time, and by id."""
    line, bolt, acme = shared_pair, _phone(shared_pair, "bolt"), _phone(shared_pair, "acme")
    messenger = line.service.messenger
    await messenger.read("bolt", acme)
    sent = [await _send(line, "acme", bolt, {"type": "text", "text": f"read {n}"}) for n in range(3)]
    ids = [one.message_id for one in sent]
    for message_id in ids:
        await _got(line, "bolt", message_id)
    assert await messenger.read("bolt", acme, ids[:1]) == ids[:1]
    assert sorted(await messenger.read("bolt", acme)) == sorted(ids)
    assert await messenger.read("bolt", acme) == []

    def states() -> set[str]:
        found = (messenger.message("acme", one) for one in ids)
        return {one.state.word for one in found if one is not None}

    await until(lambda: states() == {"read"}, lambda: f"all read, not {states()}")
    with pytest.raises(NotFound, match="no received message"):
        await messenger.read("bolt", acme, ["3EB0000000000000000000"])


@shares_loop
async def test_typing_is_shown_and_ends_by_itself(shared_pair: Line) -> None:
    """Typing is shown to the chat, and taken back after its time without anybody's doing."""
    line, bolt = shared_pair, _phone(shared_pair, "bolt")
    before = (await line.simulator.ask("GET", "/stats"))["chat_states"]

    async def shown(state: str) -> bool:
        now = (await line.simulator.ask("GET", "/stats"))["chat_states"]
        return bool(now.get(state, 0) > before.get(state, 0))

    await line.service.messenger.typing("acme", bolt, True, ttl_s=0.3)
    await until(lambda: shown("composing"), "typing")
    await until(lambda: shown("paused"), "the end of typing")
    with pytest.raises(UsageError, match="25 s"):
        await line.service.messenger.typing("acme", bolt, True, ttl_s=60)


@shares_loop
async def test_groups_are_listed_and_take_every_kind(shared_pair: Line) -> None:
    """A company sees its groups and their members, and replies and reacts there."""
    line, messenger = shared_pair, shared_pair.service.messenger
    phones = [line.phones["acme"], line.phones["bolt"]]
    made = {"subject": "made up", "participants": phones}
    jid = (await line.simulator.ask("POST", "/groups", made))["jid"]
    (listed,) = [group for group in await messenger.groups("acme") if group["jid"] == jid]
    assert (listed["name"], listed["size"]) == ("made up", 2)
    shown = await messenger.group("bolt", jid)
    assert {one["phone_jid"] for one in shown["participants"]} == {f"{one}@s.whatsapp.net" for one in phones}
    assert {one["role"] for one in shown["participants"]} == {"superadmin", "member"}
    asked = await _send(line, "acme", jid, {"type": "text", "text": "who is in?"})
    await _got(line, "bolt", asked.message_id)
    answers = (
        {"type": "text", "text": "I am", "reply_to": asked.message_id},
        {"type": "reaction", "to": asked.message_id, "emoji": "✅"},
    )
    for content in answers:
        answer = await _send(line, "bolt", jid, content)
        got = await _got(line, "acme", answer.message_id)
        assert asked.message_id in (got.get("reply_to"), got.get("target_id"))
    assert await messenger.read("bolt", jid) != []
    with pytest.raises(UsageError):
        await messenger.group("bolt", "120363000000000000@g.us")


@shares_loop
async def test_a_message_that_is_asked_for_again_is_sent_by_another_host(
    shared_pair: Line, new_phone: Callable[[], str]
) -> None:
    """A receiver that cannot decrypt a message asks for it again; it gets it though the host that sent it is gone."""
    line, contact = shared_pair, new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "silent"})
    await _send(line, "acme", "+" + contact, {"type": "text", "text": "the first"})
    await line.contact_received(contact, ["the first"])
    retries = await line.retries()
    await line.simulator.ask("POST", "/faults", {"kind": "stall", "phone": contact})
    await line.simulator.ask("POST", f"/contacts/{contact}/lose-sessions", {})
    await _send(line, "acme", "+" + contact, {"type": "text", "text": "asked for again"})
    generations = {company: line.session(company).generation for company in ("acme", "bolt")}
    (host,) = (await line.service.status())["hosts"]
    os.kill(host["pid"], signal.SIGKILL)
    await until(
        lambda: all(line.session(company).generation > former for company, former in generations.items()),
        "a new host",
    )
    for company in generations:
        await line.state(company, State.OPEN)
    await line.simulator.ask("DELETE", "/faults")
    await line.contact_received(contact, ["asked for again"])
    assert await line.retries() > retries
    await until(lambda: line.session("acme").retry_receipts_received > 0, "the count of it")
    sessions = line.service.picture.health().sessions
    assert sessions is not None
    assert sessions.retry_receipts_received > 0
    assert sessions.verdicts == {"ok": sessions.wanted}
