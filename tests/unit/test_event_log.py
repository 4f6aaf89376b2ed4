"""The event log and the file it lies in: each message once, in order, sealed, and kept for who is owed it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from standfast.errors import ServiceUnavailable, SessionNotOpen
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.paging import read_page
from tests.messaging import ACME, ANNA, KEY, Post
from tests.support import until


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    made = Post(tmp_path / "messages")
    await made.start()
    await made.open()
    yield made
    await made.stop()


async def test_a_message_is_kept_and_published_once(post: Post) -> None:
    """However often it is delivered; the same id in another chat is another message."""
    heard: list[str] = []
    post.bus.subscribe(
        lambda event: heard.append(event.data["message"]["text"]) if event.kind == "message" else None
    )
    await asyncio.gather(*(post.receive("A1", "once") for _ in range(3)))
    await post.receive("A1", "elsewhere", chat="7@lid")
    assert sorted(heard) == ["elsewhere", "once"]
    assert [event.data["text"] for event in post.mailbox.log.after(0, kinds=["message"])] == heard
    assert post.mailbox.knows(ACME, "123@lid", "A1")
    assert not post.mailbox.knows(ACME, "123@lid", "A2")


async def test_a_message_of_a_former_connection_is_not_taken(post: Post) -> None:
    """It is answered with an error, so that the host leaves it with WhatsApp; nothing of it is kept."""
    session = post.pool.session(ACME)
    assert session is not None
    session.generation += 1
    current = session.generation
    session.generation -= 1
    params = b'{"company": "acme", "generation": %d, "message": {"id": "A1", "chat": "x@lid"}}' % current
    with pytest.raises(SessionNotOpen):
        await post.pool.hearing.asked("message.received", params)  # type: ignore[arg-type]
    assert not post.mailbox.knows(ACME, "x@lid", "A1")


async def test_numbers_grow_over_restarts_and_who_follows_misses_none(tmp_path: Path) -> None:
    """Whoever has seen all up to a number and asks for what follows gets each event once, in order."""
    first = Post(tmp_path)
    await first.start()
    await first.open()
    for number in range(5):
        await first.receive(f"A{number}", str(number))
    await first.stop()
    second = Post(tmp_path)
    await second.start()
    await second.open()
    seen: list[str] = []

    async def follow() -> None:
        async for event in second.mailbox.log.follow(0, kinds=["message"]):
            seen.append(event.data["text"])  # noqa: PERF401 - it never ends

    following = asyncio.create_task(follow())
    await until(lambda: len(seen) == 5)
    await asyncio.gather(*(second.receive(f"B{number}", str(5 + number)) for number in range(300)))
    await until(lambda: len(seen) == 305)
    following.cancel()
    assert seen == [str(number) for number in range(305)]
    numbers = [event.number for event in second.mailbox.log.after(0, limit=1_000)]
    assert numbers == sorted(set(numbers))
    assert second.mailbox.log.last == numbers[-1]
    await second.stop()


async def test_received_messages_of_a_chat_are_found_by_phone_number(post: Post) -> None:
    """Also where WhatsApp addressed them by another name, newest first and in pages."""
    for number in range(4):
        await post.receive(f"A{number}", str(number), chat="5@lid", chat_alt=f"{ANNA}:3@s.whatsapp.net")
    await post.receive("B", "other")
    page = post.messenger.received(ACME, chat="+" + ANNA, limit=3)
    assert [event.data["text"] for event in page] == ["3", "2", "1"]
    rest = post.messenger.received(ACME, chat="+" + ANNA, before=page[-1].number)
    assert [event.data["text"] for event in rest] == ["0"]


async def test_nobody_reads_texts_and_addresses_from_the_file(post: Post, tmp_path: Path) -> None:
    """Neither content nor phone numbers stand in it, sent or received, and it is private."""
    await post.receive("A1", "a received secret", chat="5@lid", chat_alt=f"{ANNA}@s.whatsapp.net")
    await post.send(ANNA, "a sent secret", wait_s=5.0)
    directory = tmp_path / "messages"
    files = [path for path in directory.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    for secret in (b"secret", ANNA.encode(), b"5@lid"):
        assert secret not in content
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


async def test_nobody_waits_for_a_service_that_ends(post: Post) -> None:
    """Who waits for the next event is told at once, and does not hold up the end."""
    waiting = asyncio.create_task(read_page(post.mailbox.log, 0, kinds=["message"], wait_s=30))
    await asyncio.sleep(0)
    post.mailbox.log.end_waits()
    with pytest.raises(ServiceUnavailable, match="ending"):
        await asyncio.wait_for(waiting, 2)


async def test_old_messages_go_and_those_that_are_owed_stay(tmp_path: Path) -> None:
    """After their days received and sent messages are forgotten, unless somebody still waits for them."""
    now = 1_000_000.0
    post = Post(tmp_path, clock=lambda: now)
    await post.start()
    await post.open()
    await post.receive("A1", "old")
    await post.receive("A2", "old and owed")
    sent = await post.send(ANNA, "sent", wait_s=5.0)
    owed = post.mailbox.log.after(0, kinds=["message"])[1].number
    columns = "webhook, number, company, lane, queued_at"
    for statement in (
        "insert into webhooks values ('hook', x'', 0, null)",
        f"insert into deliveries ({columns}) values ('hook', {owed}, 'acme', x'', 0)",
    ):
        await post.mailbox.file.write(partial(_execute, statement))
    post.close_session()
    queued = await post.send(ANNA, "queued", lifetime_s=30 * 86_400)
    now += 8 * 86_400
    await post.receive("A3", "new")
    await post.mailbox.trim()
    assert [event.data["text"] for event in post.mailbox.log.after(0, kinds=["message"])] == [
        "old and owed",
        "new",
    ]
    assert post.messenger.message(ACME, sent.message_id) is None
    assert post.messenger.message(ACME, queued.message_id) is not None
    await post.stop()


async def test_a_file_that_cannot_be_read_is_moved_aside_and_told(tmp_path: Path) -> None:
    """Damage, and another key: a new file is begun, the old one is kept, and the alert says where."""
    for spoil in (lambda file: file.write_bytes(b"not a database" * 1_000), None):
        directory = tmp_path / ("other-key" if spoil is None else "damage")
        first = Post(directory)
        await first.start()
        await first.open()
        await first.receive("A1", "kept")
        await first.stop()
        if spoil is not None:
            spoil(directory / "messages.db")
        second = Post(directory)
        if spoil is None:
            second.mailbox = Mailbox(directory, bytes(reversed(KEY)), second)
        second.mailbox.open()
        assert [alert.name for alert in second.alerts] == ["messages_damaged"]
        assert second.mailbox.log.last == 0
        assert len(list(directory.glob("damaged-*/messages.db"))) == 1
        await second.mailbox.close()


def _execute(statement: str, connection: sqlite3.Connection) -> None:
    connection.execute(statement)
