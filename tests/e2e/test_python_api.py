"""The Python API against a running service, as a program uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import standfast
from standfast.errors import CompanyUnknown, Conflict, ServiceUnavailable, UsageError
from standfast.service.client import Client
from standfast.sessions.session import State
from tests.e2e.conftest import Line, acquainted, shares_loop, until


async def is_in(sf: Client, message_id: str, state: str) -> bool:
    found = await sf.message("acme", message_id)
    assert found is not None
    return found.state == state


@shares_loop
async def test_a_program_sends_and_reads(shared_pair: Line) -> None:
    """What is sent has a state that can be asked for later, what came in can be read back, and both are records."""
    phone = shared_pair.phones
    async with standfast.connect(shared_pair.service.gateway.path) as sf:
        sent = await sf.send("acme", f"+{phone['bolt']}", "hello bolt", idempotency_key="greeting-1")
        assert sent.is_confirmed
        again = await sf.send("acme", f"+{phone['bolt']}", "hello bolt", idempotency_key="greeting-1")
        assert again.message_id == sent.message_id
        with pytest.raises(Conflict):
            await sf.send("acme", f"+{phone['bolt']}", "something else", idempotency_key="greeting-1")
        with pytest.raises(UsageError):
            await sf.send("acme", "nobody", "hello")
        await shared_pair.received("bolt", ["hello bolt"])
        await until(lambda: is_in(sf, sent.message_id, "delivered"), "the receipt of the other side")
        assert await sf.message("acme", "3EB0000000") is None
        assert [one.message_id for one in await sf.sent("acme", to=f"+{phone['bolt']}", limit=1)] == [
            sent.message_id
        ]
        newest = (await sf.received("bolt", f"+{phone['acme']}", limit=1))[0]
        assert (newest.id, newest.text, newest.company) == (sent.message_id, "hello bolt", "bolt")
        assert newest.number is not None
        earlier = await sf.received("bolt", before=newest.number)
        assert newest.id not in {one.id for one in earlier}


@shares_loop
async def test_a_program_looks_after_sessions(shared_pair: Line) -> None:
    """Sessions and the service's state are records; a session is stopped and started, and a company that is not there
    is named."""
    async with standfast.connect(shared_pair.service.gateway.path) as sf:
        assert {one.company for one in await sf.sessions()} >= {"acme", "bolt"}
        with pytest.raises(CompanyUnknown, match="nobody"):
            await sf.session("nobody")
        async with sf.events("acme", kinds=("state",)) as events:
            assert (await sf.stop("acme")).state == "closed"
            await sf.start("acme")
            async for event in events:
                if event.data["state"] == "open":
                    break
        assert (await sf.session("acme")).is_open
        status = await sf.status()
        assert (status.database.state, status.host.ready, status.is_ready) == ("online", True, True)
        assert status.document["sessions"][0]["company"] == "acme"


async def test_a_program_outlives_the_service(line: Line, new_phone: Callable[[], str]) -> None:
    """While the service is away calls fail and live events end; when it is back the next call connects, and an
    iteration by number goes on, with nothing missed and nothing twice."""
    await acquainted(line)
    async with standfast.connect(line.service.gateway.path) as sf, sf.events() as live:
        begin = await sf.last_event()
        heard: list[str | None] = []

        async def listen() -> None:
            async for message in sf.messages("bolt", after=begin):
                heard.append(message.text)  # noqa: PERF401 - it is looked at meanwhile

        listening = asyncio.create_task(listen())
        await sf.send("acme", f"+{line.phones['bolt']}", "before")
        await until(lambda: heard == ["before"], lambda: f"one message: {heard}")
        await line.stop()
        with pytest.raises(ServiceUnavailable):
            await sf.sessions()
        with pytest.raises(ServiceUnavailable, match="stream of events ended"):
            async for _ in live:
                pass
        await line.start()
        await line.state("acme", State.OPEN)
        await sf.send("acme", f"+{line.phones['bolt']}", "after")
        await until(lambda: heard == ["before", "after"], lambda: f"both messages, once: {heard}")
        listening.cancel()
        again = sf.messages("bolt", after=begin)
        assert [(await anext(again)).text for _ in range(2)] == ["before", "after"]
        await again.aclose()
    with pytest.raises(ServiceUnavailable, match="closed"):
        await sf.sessions()
