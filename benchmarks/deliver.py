"""Delivers events by HTTP: bare posts, a backlog, or so many a second beside a gateway. Options: `{"directory", "url",
"kind", "count", "rate", "seconds"}`.

Invariant: what is delivered as a webhook went through the messages' file, with an fsync before it counts.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop

from benchmarks.child import pause, tell, told_options
from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.messaging.mailbox import Mailbox
from standfast.messaging.outside import Outside
from standfast.messaging.reach import Reach
from standfast.messaging.webhooks import Webhooks
from standfast.sessions.gateway import Gateway, OperatorMethod

ACME = Company("acme")
CHATS = 200
AT_ONCE = 16
HEADERS = {"Content-Type": "application/json"}
PATIENCE_S = 120.0


def message(number: int) -> dict[str, Any]:
    """What a contact wrote, about as large as texts are."""
    chat = f"7999{number % CHATS:07}@s.whatsapp.net"
    return {
        "id": f"3EB0{number:018X}",
        "chat": chat,
        "sender": chat,
        "text": f"message {number} " + "x" * 120,
        "type": "text",
        "from_me": False,
        "timestamp_s": 1,
        "live": True,
    }


async def bare(url: str, count: int) -> float:
    """Seconds for so many posts of the same bytes by aiohttp alone, over as many connections."""
    numbers = iter(range(count))

    async def post(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {
                "number": number,
                "company": ACME,
                "kind": "message",
                "at": time.time(),
                "data": message(number),
            }
            async with session.post(url, data=msgspec.json.encode(body), headers=HEADERS) as answer:
                assert answer.status == 200

    async with aiohttp.ClientSession() as session:
        began = time.monotonic()
        await asyncio.gather(*(post(session) for _ in range(AT_ONCE)))
        return time.monotonic() - began


async def backlog(mailbox: Mailbox, webhooks: Webhooks, count: int) -> float:
    """Seconds until a webhook that was paused has everything."""
    await webhooks.pause("bench")
    for start in range(0, count, 100):
        part = range(start, min(count, start + 100))
        await asyncio.gather(*(mailbox.log.take(ACME, message(number)) for number in part))
    began = time.monotonic()
    await webhooks.resume("bench")
    await _delivered(webhooks, count)
    return time.monotonic() - began


async def steady(mailbox: Mailbox, webhooks: Webhooks, rate: float, seconds: float) -> float:
    """Seconds from the first of so many a second until the last was delivered."""
    loop, began = asyncio.get_running_loop(), time.monotonic()
    count, taken = round(rate * seconds), set()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        taken.add(loop.create_task(mailbox.log.take(ACME, message(number))))
    await asyncio.gather(*taken)
    await _delivered(webhooks, count)
    return time.monotonic() - began


async def _delivered(webhooks: Webhooks, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while webhooks.show("bench")["delivered"] < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def _run(options: dict[str, Any], mailbox: Mailbox, webhooks: Webhooks) -> float:
    kind, count = options["kind"], options["count"]
    if kind == "bare":
        return await bare(options["url"], count)
    if kind == "backlog":
        return await backlog(mailbox, webhooks, count)
    if kind == "idle":
        await asyncio.sleep(options["seconds"])
        return float(options["seconds"])
    return await steady(mailbox, webhooks, options["rate"], options["seconds"])


async def serve(options: dict[str, Any]) -> None:
    """Make everything, wait to be told to begin, deliver, and tell how long it took."""
    directory = Path(options["directory"])
    mailbox = Mailbox(directory / "messages", bytes(range(32)), LoggedAlerts())
    mailbox.open()
    outside = Outside(Reach("127.0.0.1"))
    webhooks = Webhooks(mailbox.file, mailbox.log, outside, LoggedAlerts())
    webhooks.load()
    webhooks.start()
    await webhooks.add("bench", options["url"])
    store: Any = None
    gateway = Gateway(directory / "gateway.sock", store, "benchmark")
    methods: dict[str, OperatorMethod] = {"status": lambda _connection, _params: _nothing()}
    gateway.serve_operators(methods, lambda _connection: None)
    await gateway.start()
    if await pause():
        tell({"took_s": await _run(options, mailbox, webhooks)})
        await pause()  # the gateway answers to the end of the measurement
    await gateway.stop(0.1)
    await webhooks.stop()
    await outside.close()
    await mailbox.close()


async def _nothing() -> dict[str, Any]:
    return {}


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
