"""The outbox: what is accepted reaches WhatsApp once, in order for its chat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from standfast.errors import (
    CompanyUnknown,
    Conflict,
    JournalUnwritable,
    SendFailed,
    SessionNotOpen,
    UsageError,
)
from standfast.messaging.outgoing import State
from standfast.messaging.rate import NewChatLimit, NewChats, parse_limit
from tests.messaging import ACME, ANNA, BORIS, CLARA, QUICK, Post, not_open
from tests.support import until


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    made = Post(tmp_path / "messages")
    await made.start()
    await made.open()
    yield made
    await made.stop()


async def state(post: Post, message_id: str) -> State | None:
    """Of the message, as the file has it once what is under way was written."""
    await post.mailbox.file.write(lambda _connection: None)
    message = post.messenger.message(ACME, message_id)
    return message.state if message else None


async def test_an_accepted_message_is_sent_and_confirmed(post: Post) -> None:
    """It has its id from its acceptance on, and each later receipt advances its state, never back."""
    sent = await post.send(ANNA, "hello", wait_s=5.0)
    assert sent.state is State.SENT
    assert post.host.handed == [(f"{ANNA}@s.whatsapp.net", "hello", sent.message_id)]
    for status in ("read", "delivered", "sent"):
        post.receipt(sent.message_id, status)
    noted = post.messenger.message(ACME, sent.message_id)
    assert noted is not None
    assert noted.state is State.READ
    assert await state(post, sent.message_id) is State.READ
    assert not post.mailbox.outgoing._noted
    assert post.mailbox.sent_content(ACME, sent.message_id) == b"\x0a\x01x"


async def test_a_chat_keeps_its_order_whatever_fails(post: Post) -> None:
    """A message that fails is tried again before the next one of its chat; other chats go on meanwhile."""

    def until_the_other_has_gone(jid: str, text: str) -> SendFailed | None:
        return SendFailed("not yet") if text == "1" and "beside" not in post.host.texts() else None

    post.host.trouble = until_the_other_has_gone
    for text in ("1", "2", "3"):
        await post.send(ANNA, text)
    await post.send(BORIS, "beside")
    await until(lambda: len(post.host.handed) == 4)
    assert post.host.texts() == ["beside", "1", "2", "3"]


async def test_messages_wait_for_the_session(post: Post) -> None:
    """Accepted while the session reconnects, they are sent in order once it is open, each once."""
    post.close_session()
    sent = [await post.send(ANNA, str(number)) for number in range(5)]
    assert {one.state for one in sent} == {State.QUEUED}
    assert post.host.handed == []
    await post.open()
    await until(lambda: len(post.host.handed) == 5)
    assert post.host.texts() == ["0", "1", "2", "3", "4"]


async def test_what_left_a_lost_connection_unconfirmed_goes_again_first(post: Post) -> None:
    """Under the same id and before anything that was accepted later: WhatsApp may not have got it."""
    post.host.confirms = False
    first, second = await post.send(ANNA, "1"), await post.send(ANNA, "2")
    await until(lambda: len(post.host.handed) == 2)
    post.close_session()
    third = await post.send(ANNA, "3")
    post.host.confirms = True
    await post.open()
    await until(lambda: len(post.host.handed) == 5)
    ids = [first.message_id, second.message_id]
    assert [one[2] for one in post.host.handed] == [*ids, *ids, third.message_id]


async def test_what_is_never_confirmed_goes_again(tmp_path: Path) -> None:
    """Also on a session that stays open: a confirmation that does not come in time counts as lost."""
    post = Post(tmp_path, replace(QUICK, confirmation_s=0.1))
    await post.start()
    await post.open()
    post.host.confirms = False
    sent = await post.send(ANNA, "1")
    await until(lambda: len(post.host.handed) == 1)
    post.host.confirms = True
    await until(lambda: len(post.host.handed) == 2)
    assert (await post.messenger.outbox.settled(sent, 5.0)).state is State.SENT
    assert post.messenger.outbox.waiting() == {ACME: 0}
    await post.stop()


async def test_a_late_confirmation_ends_a_repetition(post: Post) -> None:
    """A message that is to be sent again, and is confirmed before its turn, is not."""
    post.host.confirms = False
    sent = await post.send(ANNA, "1")
    await until(lambda: len(post.host.handed) == 1)
    post.host.trouble = lambda jid, text: not_open()
    post.close_session()
    await post.open()
    post.receipt(sent.message_id, "delivered")
    post.host.trouble = lambda jid, text: None
    await post.send(ANNA, "2")
    await until(lambda: "2" in post.host.texts())
    assert post.host.texts() == ["1", "2"]


async def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """Queued messages and unconfirmed ones are sent by the next process, in order, under their ids."""
    before = Post(tmp_path)
    await before.start()
    await before.open()
    before.host.confirms = False
    left = await before.send(ANNA, "left")
    await until(lambda: len(before.host.handed) == 1)
    before.close_session()
    queued = await before.send(ANNA, "queued")
    await before.stop()
    after = Post(tmp_path)
    await after.start()
    await after.open()
    await until(lambda: len(after.host.handed) == 2)
    assert [one[2] for one in after.host.handed] == [left.message_id, queued.message_id]
    await after.stop()


async def test_a_stop_brings_what_is_under_way_to_its_end(tmp_path: Path) -> None:
    """The hand-over that has begun is finished and its confirmation noted; nothing else is begun."""
    post, gate = Post(tmp_path), asyncio.Event()
    await post.start()
    await post.open()
    request, post.host.confirms = post.host.request, False

    async def slow(method: str, params: Any, *, timeout_s: float) -> msgspec.Raw:
        await gate.wait()
        return await request(method, params, timeout_s=timeout_s)

    post.host.request = slow  # type: ignore[method-assign]
    sent, waiting = await post.send(ANNA, "1"), await post.send(ANNA, "2")
    await asyncio.sleep(0.01)
    stopping = asyncio.create_task(post.messenger.outbox.stop())
    await asyncio.sleep(0.01)
    gate.set()
    await until(lambda: len(post.host.handed) == 1)
    post.receipt(sent.message_id, "sent")
    await stopping
    assert post.host.texts() == ["1"]
    assert await state(post, sent.message_id) is State.SENT
    assert await state(post, waiting.message_id) is State.QUEUED
    await post.stop()


async def test_an_idempotency_key_makes_one_message(post: Post) -> None:
    """The same key and message, at once or later, is the same message; with another message it is a conflict."""
    twice = await asyncio.gather(*(post.send(ANNA, "once", idempotency_key="k") for _ in range(2)))
    later = await post.send(ANNA, "once", idempotency_key="k", wait_s=5.0)
    assert {one.message_id for one in twice} == {later.message_id}
    assert post.host.texts() == ["once"]
    with pytest.raises(Conflict, match="used for another message"):
        await post.send(ANNA, "other", idempotency_key="k")


async def test_what_cannot_be_sent_fails_and_lets_the_next_one_pass(post: Post) -> None:
    """A refusal at once, trouble after its attempts; the error is kept, and told as an event."""
    trouble = {"bad": UsageError("no such address"), "worse": SendFailed("WhatsApp does not take it")}
    post.host.trouble = lambda jid, text: trouble.get(text)
    bad = await post.send(ANNA, "bad", wait_s=5.0)
    worse = await post.send(ANNA, "worse", wait_s=5.0)
    good = await post.send(ANNA, "good", wait_s=5.0)
    assert (bad.state, worse.state, good.state) == (State.FAILED, State.FAILED, State.SENT)
    assert await state(post, worse.message_id) is State.FAILED
    kept = post.messenger.message(ACME, worse.message_id)
    assert kept is not None
    assert (kept.error or {})["message"] == "WhatsApp does not take it"
    assert kept.attempts == QUICK.attempts
    await until(lambda: len(post.mailbox.log.after(0, kinds=["receipt"])) == 3)
    failed = [one.data["message_id"] for one in post.mailbox.log.after(0, kinds=["receipt"])][:2]
    assert failed == [bad.message_id, worse.message_id]


async def test_a_message_that_cannot_be_sent_in_its_lifetime_fails(post: Post) -> None:
    """Nobody wants yesterday's message tomorrow."""
    post.close_session()
    sent = await post.send(ANNA, "soon", lifetime_s=0.05)
    settled = await post.messenger.outbox.settled(sent, 5.0)
    assert settled.state is State.FAILED
    await post.open()
    assert post.host.handed == []


async def test_a_queued_message_can_be_cancelled(post: Post) -> None:
    """What was sent cannot."""
    gone = await post.send(ANNA, "gone", wait_s=5.0)
    post.close_session()
    queued = await post.send(ANNA, "queued")
    post.messenger.cancel(ACME, queued.message_id)
    assert await state(post, queued.message_id) is State.FAILED
    with pytest.raises(UsageError, match="is sent and cannot be cancelled"):
        post.messenger.cancel(ACME, gone.message_id)
    await post.open()
    await post.send(ANNA, "next", wait_s=5.0)
    assert post.host.texts() == ["gone", "next"]


async def test_nothing_is_accepted_for_a_session_that_does_not_come_back(post: Post) -> None:
    """A session that was replaced needs somebody, and an unknown company has none."""
    post.tell({"kind": "closed", "status": 440, "reason": "replaced"})
    with pytest.raises(SessionNotOpen, match="replaced"):
        await post.send(ANNA, "hello")
    with pytest.raises(CompanyUnknown):
        await post.messenger.send("nobody", ANNA, {"type": "text", "text": "hello"})


async def test_new_chats_are_begun_at_the_limit(tmp_path: Path) -> None:
    """Two new chats a minute pass, restarts included; a chat that wrote first is not new, nor one that is known."""
    now = 1_000.0
    options = replace(QUICK, limit=NewChatLimit(2))
    post = Post(tmp_path, options, clock=lambda: now)
    await post.start()
    await post.open()
    await post.receive("A1", "hi", chat="5@lid", chat_alt=f"{CLARA}@s.whatsapp.net")
    for phone in (ANNA, BORIS):
        await post.send(phone, "first", wait_s=5.0)
    held = await post.send("79990000004", "held")
    await post.send(CLARA, "an answer", wait_s=5.0)
    await post.send(ANNA, "again", wait_s=5.0)
    assert len(post.host.handed) == 4
    await post.stop()
    now += 59.95
    again = Post(tmp_path, options, clock=lambda: now)
    await again.start()
    await again.open()
    assert again.host.handed == []
    now += 0.1
    await until(lambda: [one[2] for one in again.host.handed] == [held.message_id])
    await again.stop()


def test_the_limit_is_written_as_a_default_and_exceptions() -> None:
    """`12,acme=60`: 60 for acme, 12 for others; anything else is refused with what to write."""
    limit = parse_limit("12, acme=60,shop=0")
    assert [limit.of(company) for company in ("acme", "shop", "other")] == [60, 0, 12]
    assert NewChats(0).wait_s == 0.0
    for wrong in ("x", "acme=", "-1", "acme=-2"):
        with pytest.raises(Exception, match="STANDFAST_NEW_CHATS_PER_MINUTE"):
            parse_limit(wrong)


async def test_a_caller_that_goes_away_leaves_no_message_behind(post: Post) -> None:
    """What is on disk is in its lane: repeated under its key, the message is sent, and once."""
    asking = asyncio.create_task(post.send(ANNA, "hello", idempotency_key="k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    again = await post.send(ANNA, "hello", idempotency_key="k", wait_s=5.0)
    assert again.state is State.SENT
    assert post.host.texts() == ["hello"]


async def test_a_file_that_cannot_be_read_for_a_moment_stops_no_chat(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chat goes on when it can."""
    table, failures = post.mailbox.outgoing, iter([True, True])
    is_met = table.is_met

    def unreadable(company: str, chat: bytes) -> bool:
        if next(failures, False):
            raise JournalUnwritable("the disk does not answer")
        return is_met(company, chat)

    monkeypatch.setattr(table, "is_met", unreadable)
    assert (await post.send(ANNA, "hello", wait_s=5.0)).state is State.SENT


async def test_a_cancelled_message_holds_up_nobody(post: Post) -> None:
    """Those behind it have their own lifetime, and their turn."""
    post.close_session()
    gone = await post.send(ANNA, "gone")
    soon = await post.send(ANNA, "soon", lifetime_s=0.1)
    later = await post.send(ANNA, "later")
    await asyncio.sleep(0.01)
    post.messenger.cancel(ACME, gone.message_id)
    assert (await post.messenger.outbox.settled(soon, 5.0)).state is State.FAILED
    await post.open()
    assert (await post.messenger.outbox.settled(later, 5.0)).state is State.SENT
    assert post.host.texts() == ["later"]
