"""What replies, reactions, edits and deletions point at, and read marks, without a Node host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import UsageError
from standfast.messaging.content import checked
from standfast.messaging.quoting import Targets
from tests.messaging import ACME, ANNA, Post

JID = f"{ANNA}@s.whatsapp.net"
GROUP = "120363000000000001@g.us"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def post(tmp_path: Path, clock: Clock) -> AsyncIterator[Post]:
    made = Post(tmp_path / "messages", clock=clock)
    await made.start()
    await made.open()
    yield made
    await made.stop()


def targets(post: Post, clock: Clock) -> Targets:
    return Targets(post.mailbox, clock)


async def test_a_received_message_is_found_by_either_address(post: Post, clock: Clock) -> None:
    """By the LID that it came from and by the phone number; not in another chat."""
    await post.receive("MSG00001", "hi", "9@lid", chat_alt=JID)
    found = targets(post, clock)
    for chat in ("9@lid", JID):
        target = found.find(ACME, chat, "MSG00001")
        assert target.key == {"remoteJid": "9@lid", "id": "MSG00001", "fromMe": False}
        assert target.quoted(JID)["key"]["remoteJid"] == JID
        assert target.quoted(JID)["message"] == {"conversation": "hi"}
    for company, chat in ((ACME, "8@lid"), ("other", JID)):
        with pytest.raises(UsageError, match="no message with this id"):
            found.find(company, chat, "MSG00001")


async def test_in_a_group_the_sender_is_named(post: Post, clock: Clock) -> None:
    """A quoted message of a group names who wrote it."""
    await post.receive("MSG00002", "hi", GROUP, sender="7@lid", type="image")
    target = targets(post, clock).find(ACME, GROUP, "MSG00002")
    assert target.key["participant"] == "7@lid"
    assert target.quoted(GROUP)["message"] == {"imageMessage": {"caption": "hi"}}


async def test_only_an_own_text_can_be_edited_and_not_for_ever(post: Post, clock: Clock) -> None:
    """Edits of others' messages, and of own ones after 15 minutes, are refused; deletions after 60 hours."""
    sent = await post.send(ANNA, "draft")
    found = targets(post, clock)
    edit = {"type": "edit", "to": sent.message_id, "text": "final"}
    revoke = {"type": "revoke", "to": sent.message_id}
    for content in (edit, revoke):
        found.check(ACME, JID, content)
    clock.now += 16 * 60
    found.check(ACME, JID, revoke)
    with pytest.raises(UsageError, match="15 minutes"):
        found.check(ACME, JID, edit)
    clock.now += 61 * 3600
    with pytest.raises(UsageError, match="60 hours"):
        found.check(ACME, JID, revoke)
    await post.receive("MSG00003", "theirs", "9@lid", chat_alt=JID, timestamp_s=int(clock.now))
    for kind in ("edit", "revoke"):
        with pytest.raises(UsageError, match="only"):
            found.check(ACME, JID, {"type": kind, "to": "MSG00003", "text": "x"})
    await post.receive("MSG00004", "theirs", GROUP, sender="7@lid", timestamp_s=int(clock.now))
    found.check(ACME, GROUP, {"type": "revoke", "to": "MSG00004"})


async def test_unread_messages_are_those_of_others_since_the_last_mark(post: Post) -> None:
    """By either address of the chat; own messages and what was marked are left out."""
    log = post.mailbox.log
    await post.receive("MSG00005", "one", "9@lid", chat_alt=JID)
    await post.receive("MSG00006", "own", "9@lid", chat_alt=JID, from_me=True)
    await post.receive("MSG00007", "else", "8@lid")
    for chat in ("9@lid", JID):
        (one,) = log.unread(ACME, chat)
        assert one.data["id"] == "MSG00005"
    await log.mark_read(ACME, "9@lid", one.number)
    assert log.unread(ACME, JID) == []
    await post.receive("MSG00008", "two", "9@lid", chat_alt=JID)
    assert [one.data["id"] for one in log.unread(ACME, JID)] == ["MSG00008"]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "nothing"},
        {"type": "text"},
        {"type": "text", "text": ""},
        {"type": "text", "text": "a", "reply_to": "a b"},
        {"type": "text", "text": "a", "mentions": "79990000001"},
        {"type": "text", "text": "a", "mentions": ["1"] * 257},
        {"type": "reaction", "to": "MSG00001", "emoji": "x" * 17},
        {"type": "edit", "to": "../x", "text": "a"},
        {"type": "revoke"},
        {"type": "revoke", "to": "MSG00001", "text": "a"},
    ],
)
def test_content_that_cannot_be_is_refused(content: dict[str, Any]) -> None:
    """With what is wrong with it."""
    with pytest.raises(UsageError, match="the content cannot be sent"):
        checked(content)
