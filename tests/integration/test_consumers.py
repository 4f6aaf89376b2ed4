"""Durable consumers and the operators' methods of webhooks, over a real gateway and real files."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import Conflict, UsageError
from standfast.messaging.outside import Outside
from standfast.messaging.reach import Reach
from standfast.messaging.webhooks import Webhooks
from standfast.service.client import Client, connect
from standfast.service.consuming import Consuming
from standfast.service.hooking import Hooking
from standfast.service.readers import Readers
from standfast.sessions.events import Message
from standfast.sessions.gateway import Gateway
from tests.integration.services import short_directory
from tests.messaging import ACME, Post
from tests.receiver import QUICK, Receiver
from tests.support import until

DAY_S = 86_400.0


class Served:
    """Messages, webhooks and consumers behind a gateway in `directory`."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.post = Post(directory / "messages", clock=clock)
        self.outside = Outside(Reach("127.0.0.1"))
        mailbox = self.post.mailbox
        self.webhooks = Webhooks(mailbox.file, mailbox.log, self.outside, self.post, QUICK, clock)
        store: Any = None
        self.gateway = Gateway(directory / "gateway.sock", store, "test")
        self.consuming = consuming = Consuming(mailbox.consumers)
        rooms = (Readers(self.post.messenger), Hooking(self.webhooks), consuming)
        methods = {name: method for room in rooms for name, method in room.methods().items()}
        self.gateway.serve_operators(methods, consuming.gone)

    async def start(self) -> None:
        await self.post.start()
        self.webhooks.load()
        self.webhooks.start()
        await self.post.open()
        await self.gateway.start()

    async def stop(self) -> None:
        await self.gateway.stop(0.1)
        await self.webhooks.stop()
        await self.outside.close()
        await self.post.stop()


@pytest.fixture
def directory() -> Any:
    with short_directory() as path:
        yield path


@contextlib.asynccontextmanager
async def serving(directory: Path, shift_s: float = 0.0) -> AsyncIterator[Served]:
    served = Served(directory, lambda: time.time() + shift_s)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


@contextlib.asynccontextmanager
async def listening(client: Client, callback: Callable[[Message], Any], **more: Any) -> AsyncIterator[Any]:
    task = asyncio.create_task(client.on_message(callback, consumer="bot", **more))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def begun(served: Served) -> None:
    """Until the consumer has its place; a new one begins at the log's end."""
    await until(lambda: bool(served.post.mailbox.consumers.all()))


async def test_a_consumer_goes_on_behind_the_last_message_it_dealt_with(directory: Path) -> None:
    """Over a crash of its own and a restart of the service: in order, each at least once, none skipped."""
    taken: list[str] = []

    async def fails_at_two(message: Message) -> None:
        if message.text == "2" and taken.count("2") == 0:
            taken.append("2")
            raise RuntimeError("the callback's process dies")
        taken.append(str(message.text))

    async with serving(directory) as served, connect(served.gateway.path) as client:
        async with listening(client, fails_at_two) as task:
            await begun(served)
            for n in range(4):
                await served.post.receive(f"A{n}", str(n))
            await asyncio.wait({task}, timeout=5.0)
            assert isinstance(task.exception(), RuntimeError)
        assert taken == ["0", "1", "2"]
    async with serving(directory) as served:
        await served.post.receive("A4", "4", from_me=True)
        await served.post.receive("A5", "5")
        async with connect(served.gateway.path) as client, listening(client, fails_at_two):
            await until(lambda: len(taken) >= 6)
            assert taken == ["0", "1", "2", "2", "3", "5"]
            await until(lambda: served.post.mailbox.consumers.all()[0]["behind"] == 0)


async def test_a_consumer_outlives_a_restart_of_the_service(directory: Path) -> None:
    """Its program goes on by itself, and no message comes twice where nothing crashed."""
    taken: list[str] = []

    async def take(message: Message) -> None:
        taken.append(str(message.text))

    socket = directory / "gateway.sock"
    async with contextlib.AsyncExitStack() as stack:
        async with serving(directory) as first:
            client = await stack.enter_async_context(connect(socket))
            await stack.enter_async_context(listening(client, take))
            await begun(first)
            await first.post.receive("A1", "before")
            await until(lambda: taken == ["before"])
        async with serving(directory) as second:
            await second.post.receive("A2", "after")
            await until(lambda: taken == ["before", "after"])
            await stack.aclose()


async def test_a_name_belongs_to_one_program_at_a_time(directory: Path) -> None:
    """A second one is refused until the first has gone; one that is connected cannot be removed."""

    async def take(_message: Message) -> None: ...

    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(directory))
        first, second = [await stack.enter_async_context(connect(served.gateway.path)) for _ in range(2)]
        async with listening(first, take):
            await begun(served)
            with pytest.raises(Conflict, match="another program"):
                await second.on_message(take, consumer="bot")
            with pytest.raises(Conflict):
                await second.consumers("remove", name="bot")
        await first.close()

        async def is_free() -> bool:
            return not (await second.consumers("list"))[0]["connected"]

        await until(is_free)
        async with listening(second, take):
            await until(lambda: served.consuming._holders.get("bot") is not None)
        await second.close()
        await until(lambda: not served.consuming._holders)


async def test_an_abandoned_consumer_does_not_keep_the_log_for_ever(directory: Path) -> None:
    """What it has not seen is kept for 30 days; then it is forgotten, and the log is trimmed."""
    async with serving(directory) as served:
        await served.post.mailbox.consumers.open("bot")
        await served.post.receive("A1", "unseen")
    async with serving(directory, shift_s=20 * DAY_S) as served:
        await served.post.mailbox.trim()
        assert served.post.mailbox.knows(ACME, "123@lid", "A1")
    async with serving(directory, shift_s=31 * DAY_S) as served:
        await served.post.mailbox.trim()
        assert served.post.mailbox.consumers.all() == []
        assert not served.post.mailbox.knows(ACME, "123@lid", "A1")
        last = served.post.mailbox.log.last
    async with serving(directory, shift_s=31 * DAY_S) as served:
        assert served.post.mailbox.log.last >= last > 0, "numbers go on where the log was emptied"
        with pytest.raises(UsageError):
            await served.post.mailbox.consumers.acknowledge("bot", served.post.mailbox.log.last + 1)


async def test_operators_drive_webhooks_over_the_gateway(directory: Path) -> None:
    """Added, tried, paused, resumed, rotated, replayed and removed; wrong params change nothing."""
    socket = directory / "gateway.sock"
    async with Receiver() as receiver, serving(directory) as served, connect(socket) as client:
        made = await client.webhooks("add", name="bot", url=receiver.url, companies=["acme"])
        assert made["secret"]
        assert "secret" not in (await client.webhooks("list"))[0]
        assert (await client.webhooks("test", name="bot"))["delivered"]
        assert (await client.webhooks("pause", name="bot"))["paused"]
        await served.post.receive("A1", "hello")
        await asyncio.sleep(0.05)
        assert receiver.numbers == [0]
        assert not (await client.webhooks("resume", name="bot"))["paused"]
        await until(lambda: len(receiver.taken) == 2)
        number = receiver.numbers[1]
        assert await client.webhooks("replay", name="bot", numbers=[number]) == {"replayed": 1}
        await until(lambda: receiver.numbers == [0, number, number])
        assert (await client.webhooks("rotate", name="bot"))["secret"] != made["secret"]
        assert await client.webhooks("dead", name="bot") == []
        with pytest.raises(Conflict):
            await client.webhooks("add", name="bot", url=receiver.url)
        with pytest.raises(UsageError, match="not public"):
            await client.webhooks("add", name="inside", url="http://169.254.169.254/")
        await client.webhooks("remove", name="bot")
        assert await client.webhooks("list") == []
