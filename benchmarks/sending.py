"""Sends through a service's Python API or its HTTP API. Options: `{"kind", "socket", "company", "contacts", "warm_up",
"messages"}`; each line of standard input is a round.

To each contact messages are sent one after the other, each once the one before was accepted; the last of them waits for
WhatsApp's confirmation. Invariant: a round ends when all of its messages are confirmed, and no earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

import aiohttp
import uvloop

import standfast
from benchmarks.child import pause, tell, told_options

WAIT_S = 60.0
POLL_S = 0.005
CALL_TIMEOUT = aiohttp.ClientTimeout(total=90.0)
# To whom, what, and for how long to wait for its confirmation; how it stands then.
Send = Callable[[str, str, float], Awaitable[str]]


@contextlib.asynccontextmanager
async def by_python(client: standfast.Client, company: str) -> AsyncIterator[Send]:
    async def send(to: str, text: str, wait_s: float) -> str:
        return (await client.send(company, to, text, wait_s=wait_s)).state

    yield send


@contextlib.asynccontextmanager
async def by_http(client: standfast.Client, company: str) -> AsyncIterator[Send]:
    url = f"{(await client.status()).document['http']}/sessions/{company}/messages"
    async with aiohttp.ClientSession(timeout=CALL_TIMEOUT) as session:

        async def send(to: str, text: str, wait_s: float) -> str:
            body = {"to": to, "text": text}
            async with session.post(url, json=body, params={"wait_s": wait_s}) as answer:
                answer.raise_for_status()
                return str((await answer.json())["state"])

        yield send


async def send_all(send: Send, contacts: Sequence[str], messages: int) -> None:
    """So many messages to each contact, all contacts at once."""

    async def chat(contact: str) -> None:
        for number in range(messages - 1):
            await send(contact, f"message {number}", 0)
        await send(contact, "the last message", WAIT_S)

    await asyncio.gather(*map(chat, contacts))


async def all_confirmed(client: standfast.Client, company: str) -> None:
    """Those before the last ones may have been confirmed a moment later."""
    states: tuple[Literal["queued", "sending"], ...] = ("queued", "sending")
    for state in states:
        while any(  # noqa: ASYNC110 - nobody tells
            one.state == state for one in await client.sent(company, state=state)
        ):
            await asyncio.sleep(POLL_S)


async def serve(options: dict[str, Any]) -> None:
    """Warm up, then a round for each line."""
    by = by_http if options["kind"] == "http" else by_python
    contacts = [f"+{phone}" for phone in options["contacts"]]
    async with standfast.connect(options["socket"]) as client, by(client, options["company"]) as send:
        await send_all(send, contacts, options["warm_up"])
        while await pause():
            began = time.perf_counter()
            await send_all(send, contacts, options["messages"])
            await all_confirmed(client, options["company"])
            seconds = time.perf_counter() - began
            tell({"messages": options["messages"] * len(contacts), "seconds": seconds})


if __name__ == "__main__":
    uvloop.run(serve(told_options()))
