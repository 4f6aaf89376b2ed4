"""Webhooks over real files and sockets: at least once, in order within a chat, whatever the receiver does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.errors import Conflict, UsageError
from tests.receiver import QUICK, Hooks, Receiver
from tests.support import until

ANNA, BORIS = "79990000001@s.whatsapp.net", "79990000002@s.whatsapp.net"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as standing:
        yield standing


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with Hooks(tmp_path) as running:
        yield running


async def test_messages_arrive_in_order_within_a_chat_and_side_by_side_over_chats(
    hooks: Hooks, receiver: Receiver
) -> None:
    """Each once; a chat has one delivery under way at a time, the chats of a webhook at most 16 together."""
    await hooks.webhooks.add("bot", receiver.url)
    receiver.delay_s = 0.002
    chats = [f"7999000{n:04}@s.whatsapp.net" for n in range(30)]
    await asyncio.gather(*(hooks.message(f"{n}", chat) for n in range(20) for chat in chats))
    await until(lambda: len(receiver.taken) >= 600)
    for chat in chats:
        assert receiver.texts(chat) == [str(n) for n in range(20)]
    assert 2 <= receiver.most_at_once <= 16
    await until(lambda: hooks.state()["waiting"] == 0)
    assert len(receiver.requests) == 600


async def test_only_what_was_asked_for_arrives(hooks: Hooks, receiver: Receiver) -> None:
    """Companies and kinds are chosen; without a choice it is every company's messages, from now on."""
    await hooks.message("before")
    await hooks.webhooks.add("acme", receiver.url, companies=["acme"], kinds=["message", "receipt"])
    await hooks.webhooks.add("all", receiver.url)
    await hooks.message("one")
    await hooks.message("two", company="bolt")
    await hooks.mailbox.log.add("acme", "receipt", {"status": "read"})
    await hooks.mailbox.log.add("acme", "state", {"state": "open"})
    await until(lambda: len(receiver.taken) == 4)
    kinds = sorted((event["company"], event["kind"]) for event in receiver.taken)
    assert kinds == [("acme", "message"), ("acme", "message"), ("acme", "receipt"), ("bolt", "message")]


async def test_what_was_not_acknowledged_comes_again_after_a_restart(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Failures are repeated in order, and what is owed outlives the service."""
    receiver.answers = lambda _event: 503
    async with Hooks(tmp_path) as first:
        await first.webhooks.add("bot", receiver.url)
        for n in range(50):
            await first.message(str(n))
        await until(lambda: len(receiver.requests) >= 3)
        assert first.state()["last_error"] == "answered 503"
    assert receiver.taken == []
    receiver.answers = lambda _event: 204
    async with Hooks(tmp_path) as second:
        await second.message("50")
        await until(lambda: len(receiver.taken) >= 51)
        assert receiver.texts() == [str(n) for n in range(51)]
        await until(lambda: second.state()["waiting"] == 0)
        assert second.state()["failing_since"] is None


async def test_one_chat_in_trouble_holds_up_no_other(hooks: Hooks, receiver: Receiver) -> None:
    """Its messages wait behind the one that is refused; the others' arrive meanwhile."""
    await hooks.webhooks.add("bot", receiver.url)
    receiver.answers = lambda event: 500 if event["data"]["text"] == "poison" else 200
    for text in ("poison", "after"):
        await hooks.message(text, ANNA)
    for n in range(40):
        await hooks.message(str(n), BORIS)
    await until(lambda: len(receiver.taken) == 40)
    assert receiver.texts(ANNA) == []
    receiver.answers = lambda _event: 200
    await until(lambda: len(receiver.taken) == 42)
    assert receiver.texts(ANNA) == ["poison", "after"]


async def test_a_target_that_is_away_is_asked_by_one_chat_only(tmp_path: Path) -> None:
    """A hundred chats wait: they do not all knock; once one got through, all do."""
    receiver = Receiver()
    async with receiver:
        pass  # its port is known, and nobody is there
    async with Hooks(tmp_path) as hooks:
        await hooks.webhooks.add("bot", receiver.url)
        for n in range(100):
            await hooks.message(str(n), f"7999000{n:04}@s.whatsapp.net")
        await until(lambda: bool(hooks.state()["down"]))
        async with receiver:
            receiver.answers = lambda _event: 502
            await asyncio.sleep(0.3)
            assert 1 <= len(receiver.requests) <= 12
            assert receiver.most_at_once == 1
            receiver.answers = lambda _event: 200
            await until(lambda: len(receiver.taken) == 100, 3.0)
            assert not hooks.state()["down"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "did not answer within"),
        (302, "redirects are not followed"),
        (500, "answered 500"),
        (b"HTTP/1.1 20", r"ended|broke"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000, "broke"),
    ],
)
async def test_whatever_the_receiver_does_is_survived(
    tmp_path: Path, receiver: Receiver, answer: int | bytes | None, why: str
) -> None:
    """Hanging, redirecting, failing, breaking off, endless headers: told, repeated, and delivered afterwards."""
    receiver.answers = lambda _event: answer
    options = replace(QUICK, timeout_s=0.3) if answer is None else QUICK
    async with Hooks(tmp_path, options) as hooks:
        await hooks.webhooks.add("bot", receiver.url)
        number = await hooks.message("patience")
        await until(lambda: bool(hooks.state()["last_error"]))
        assert re.search(why, hooks.state()["last_error"])
        receiver.answers = lambda _event: 200
        await until(lambda: number in receiver.numbers)


async def test_an_endless_answer_is_an_acknowledgement(hooks: Hooks, receiver: Receiver) -> None:
    """The status counts; what follows is not read to its end."""
    receiver.answers = lambda _event: b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 5_000_000
    await hooks.webhooks.add("bot", receiver.url)
    await hooks.message("one")
    await until(lambda: len(receiver.requests) >= 1 and hooks.state()["waiting"] == 0)


async def test_gone_pauses_the_webhook_and_keeps_what_it_is_owed(tmp_path: Path, receiver: Receiver) -> None:
    """410 is told by an alert, asked no more over restarts, and resumed by hand."""
    receiver.answers = lambda _event: 410
    async with Hooks(tmp_path) as hooks:
        await hooks.webhooks.add("bot", receiver.url)
        await hooks.message("one")
        await until(lambda: hooks.state()["paused"])
        await hooks.message("two")
        assert len(hooks.alerted("webhook_gone")) == 1
        assert hooks.state()["paused_why"] == "it answered 410 Gone"
    receiver.answers = lambda _event: 200
    async with Hooks(tmp_path) as hooks:
        assert (hooks.state()["paused"], hooks.state()["waiting"]) == (True, 2)
        await asyncio.sleep(0.1)
        assert receiver.taken == []
        await hooks.webhooks.resume("bot")
        await until(lambda: receiver.texts() == ["one", "two"])


async def test_what_nobody_takes_is_given_up_listed_and_replayed(hooks: Hooks, receiver: Receiver) -> None:
    """After a day; the alert comes once, the chat goes on, and the dead come when they are asked for."""
    await hooks.webhooks.add("bot", receiver.url)
    receiver.answers = lambda event: 500 if event["data"]["text"].startswith("bad") else 200
    bad = [await hooks.message(text, ANNA) for text in ("bad 1", "bad 2")]
    await until(lambda: len(receiver.requests) >= 3)
    hooks.shift_s = 86_500.0
    await hooks.message("good", ANNA)
    await until(lambda: receiver.texts() == ["good"])
    dead = hooks.webhooks.dead("bot")
    assert [(one["number"], one["error"]) for one in dead] == [(number, "answered 500") for number in bad]
    assert len(hooks.alerted("webhook_dead_letters")) == 1
    receiver.answers = lambda _event: 200
    assert await hooks.webhooks.replay("bot", dead=True) == 2
    await until(lambda: receiver.texts() == ["good", "bad 1", "bad 2"])
    assert hooks.webhooks.dead("bot") == []


async def test_a_target_that_was_away_for_a_day_loses_what_waited_as_long(
    hooks: Hooks, receiver: Receiver
) -> None:
    """Everything that is as late is given up at once, and what came since is delivered when it is back."""
    await hooks.webhooks.add("bot", receiver.url)
    receiver.answers = lambda _event: 503
    for n in range(700):
        await hooks.message(f"old {n}", f"7999000{n % 50:04}@s.whatsapp.net")
    await until(lambda: bool(hooks.state()["down"]))
    hooks.shift_s = 90_000.0
    await hooks.message("new", ANNA)
    await until(lambda: hooks.state()["dead"] == 700)
    receiver.answers = lambda _event: 200
    await until(lambda: receiver.texts() == ["new"])


async def test_delivered_events_are_replayed_by_number_and_by_time(hooks: Hooks, receiver: Receiver) -> None:
    """In their order; what another company's webhook must not see stays unseen."""
    await hooks.webhooks.add("bot", receiver.url, companies=["acme"])
    numbers = [await hooks.message(str(n), ANNA) for n in range(5)]
    await hooks.message("theirs", company="bolt")
    await until(lambda: len(receiver.taken) == 5)
    assert await hooks.webhooks.replay("bot", numbers=[numbers[3], numbers[1], numbers[1], 10_000]) == 2
    await until(lambda: receiver.texts()[5:] == ["1", "3"])
    assert await hooks.webhooks.replay("bot", since=0.0) == 5
    await until(lambda: receiver.texts()[7:] == ["0", "1", "2", "3", "4"])
    with pytest.raises(UsageError, match="replay either"):
        await hooks.webhooks.replay("bot", dead=True, since=1.0)


async def test_a_replay_waits_for_what_is_under_way(hooks: Hooks, receiver: Receiver) -> None:
    """A chat that is being served when its older messages are to come again still has one delivery at a time."""
    await hooks.webhooks.add("bot", receiver.url)
    receiver.delay_s = 0.02
    for n in range(12):
        await hooks.message(str(n), ANNA)
    await until(lambda: len(receiver.taken) >= 3)
    replayed = await hooks.webhooks.replay("bot", since=0.0)
    assert 3 <= replayed < 12
    await until(lambda: hooks.state()["waiting"] == 0)
    assert receiver.most_at_once == 1
    again = receiver.texts()[replayed:]
    assert again == [str(n) for n in range(12)]


async def test_what_is_owed_is_not_trimmed(hooks: Hooks, receiver: Receiver) -> None:
    """However old it is, until it was delivered, given up or its webhook was removed."""
    await hooks.webhooks.add("bot", receiver.url)
    await hooks.webhooks.pause("bot")
    number = await hooks.message("old")
    hooks.shift_s = 8 * 86_400.0
    assert await hooks.mailbox.trim() == 0
    await hooks.webhooks.resume("bot")
    await until(lambda: receiver.numbers == [number])
    await until(lambda: hooks.state()["waiting"] == 0)
    assert await hooks.mailbox.trim() == 1


async def test_memory_holds_a_bounded_part_of_what_waits(tmp_path: Path, receiver: Receiver) -> None:
    """Thousands wait in one chat and in many: all come, in order, and few are in memory meanwhile."""
    async with Hooks(tmp_path) as hooks:
        await hooks.webhooks.add("bot", receiver.url)
        await hooks.webhooks.pause("bot")
        await asyncio.gather(*(hooks.message(f"a{n}", ANNA) for n in range(500)))
        await asyncio.gather(*(hooks.message(f"b{n}", f"{n}@lid") for n in range(1_300)))
        lanes = hooks.webhooks._running["bot"].courier._lanes
        await asyncio.sleep(0.05)
        held = sum(len(lane.items) for lane in lanes._lanes.values())
        assert len(lanes._lanes) <= 1_200
        assert held < 1_300
        await hooks.webhooks.resume("bot")
        await until(lambda: len(receiver.taken) >= 1_800, 20.0)
        assert receiver.texts(ANNA) == [f"a{n}" for n in range(500)]
        assert len(receiver.taken) == 1_800


async def test_names_urls_and_secrets_are_checked(hooks: Hooks, receiver: Receiver) -> None:
    """What cannot be is refused before anything is kept; a secret is told once and signs from then on."""
    made = await hooks.webhooks.add("bot", receiver.url)
    assert made["secret"].startswith("whsec_")
    assert made["secret"] not in str(hooks.state()) + str(hooks.webhooks.all())
    with pytest.raises(Conflict):
        await hooks.webhooks.add("bot", receiver.url)
    for wrong in (
        {"name": "a b", "url": receiver.url},
        {"name": "x", "url": "http://10.0.0.1/"},
        {"name": "x", "url": receiver.url, "secret": "short"},
        {"name": "x", "url": receiver.url, "kinds": ["qr"]},
        {"name": "x", "url": receiver.url, "companies": ["../x"]},
    ):
        with pytest.raises(UsageError):
            await hooks.webhooks.add(**wrong)
    assert [one["name"] for one in hooks.webhooks.all()] == ["bot"]
    assert receiver.url.encode() not in hooks.mailbox.file.path.read_bytes()
    await hooks.webhooks.remove("bot")
    with pytest.raises(UsageError, match="no webhook"):
        hooks.webhooks.show("bot")


async def test_a_test_event_goes_past_what_waits(hooks: Hooks, receiver: Receiver) -> None:
    """It tells what the receiver answered, and how long that took."""
    await hooks.webhooks.add("bot", receiver.url)
    await hooks.webhooks.pause("bot")
    await hooks.message("waits")
    assert (await hooks.webhooks.test("bot"))["delivered"] is True
    receiver.answers = lambda _event: 404
    assert (await hooks.webhooks.test("bot"))["error"] == "answered 404"
    assert receiver.numbers == [0]


async def test_a_stop_waits_for_what_is_under_way(tmp_path: Path, receiver: Receiver) -> None:
    """What the receiver is just answering is not delivered a second time after an orderly restart."""
    receiver.delay_s = 0.1
    async with Hooks(tmp_path) as hooks:
        await hooks.webhooks.add("bot", receiver.url)
        for n in range(3):
            await hooks.message(str(n), ANNA)
        await until(lambda: len(receiver.requests) == 1)
    async with Hooks(tmp_path) as hooks:
        await until(lambda: hooks.state()["waiting"] == 0)
    assert receiver.texts() == ["0", "1", "2"]


async def test_whatever_ends_a_webhooks_trouble_says_so(tmp_path: Path, receiver: Receiver) -> None:
    """A start finds it at work, an operator resumes, pauses or removes it: no alert of it stays open. One that is
    paused because its receiver is gone is not over with a restart."""
    receiver.answers = lambda _event: 410
    async with Hooks(tmp_path) as hooks:
        await hooks.webhooks.add("bot", receiver.url)
        assert set(hooks.ended()) == {"webhook_failing", "webhook_gone"}
        await hooks.message("one")
        await until(lambda: hooks.state()["paused"])
        assert hooks.quiet[-1].name == "webhook_settled"
    async with Hooks(tmp_path) as hooks:
        assert hooks.ended() == []
        receiver.answers = lambda _event: 200
        await hooks.webhooks.resume("bot")
        assert hooks.ended() == ["webhook_gone"]
        await until(lambda: "webhook_failing" in hooks.ended())
    async with Hooks(tmp_path) as hooks:
        for verb in (hooks.webhooks.pause, hooks.webhooks.remove):
            hooks.quiet.clear()
            await verb("bot")
            assert set(hooks.ended()) == {"webhook_failing", "webhook_gone"}
            assert {alert.subject for alert in hooks.quiet} == {"webhook=bot"}
