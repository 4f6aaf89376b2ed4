"""Events over HTTP: none missed, none twice, and nobody who does not read is waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from standfast.api import stream
from tests.messaging import ANNA
from tests.serving import Served, serving
from tests.support import until


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def _events(response: httpx.Response, count: int) -> list[dict[str, Any]]:
    """The next `count` events of a stream."""
    found: list[dict[str, Any]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(5):
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                found.append({"id": int(fields["id"]), "kind": fields["event"], **json.loads(fields["data"])})
                fields = {}
            if len(found) == count:
                break
    return found


async def test_a_stream_goes_on_where_it_was_left(api: Served) -> None:
    """Each message once, in order, over a break, by the number last seen."""
    query = {"kind": "message", "after": "0"}
    await api.post.receive("RECEIVED0", "text 0")
    async with api.client.stream("GET", "/events", params=query) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        (first,) = await _events(response, 1)
    for number in (1, 2):
        await api.post.receive(f"RECEIVED{number}", f"text {number}")
    headers = {"Last-Event-ID": str(first["id"])}
    async with api.client.stream("GET", "/events", params=query, headers=headers) as response:
        waiting = asyncio.ensure_future(_events(response, 3))
        await api.post.receive("RECEIVED3", "text 3")
        rest = await waiting
    texts = [one["data"]["text"] for one in (first, *rest)]
    assert texts == ["text 0", "text 1", "text 2", "text 3"]
    assert [one["number"] for one in rest] == sorted(one["id"] for one in rest)


async def test_pages_say_the_same(api: Served) -> None:
    """For who asks again and again: the same events, and waiting for the next one."""
    end = (await api.client.get("/events/page")).json()
    assert end["events"] == []
    asking = asyncio.ensure_future(
        api.client.get("/events/page", params={"after": end["after"], "wait_s": 5})
    )
    await asyncio.sleep(0.05)
    await api.post.receive("RECEIVED0", "text 0")
    page = (await asking).json()
    assert [one["data"]["text"] for one in page["events"]] == ["text 0"]
    beyond = await api.client.get("/events/page", params={"after": page["after"] + 1})
    assert (beyond.status_code, beyond.json()["code"]) == (422, "usage")


async def test_a_silent_stream_shows_that_it_lives(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment comes where nothing else does."""
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    async with asyncio.timeout(5), api.client.stream("GET", "/events") as response:
        async for line in response.aiter_lines():
            if line.startswith(":"):
                break


async def test_a_token_revoked_ends_its_stream(api: Served) -> None:
    """Before another event goes out."""
    text, _ = api.tokens.create("bot", ["read"])
    headers = {"Authorization": f"Bearer {text}"}
    async with api.client.stream("GET", "/events", headers=headers) as response:
        api.tokens.revoke("bot")
        await api.post.receive("RECEIVED0", "text 0")
        with pytest.raises(httpx.TransportError):
            await _events(response, 1)


async def test_who_does_not_read_is_cut_off(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing loses its connection, and the service keeps nothing for it."""
    monkeypatch.setattr(stream, "SEND_TIMEOUT_S", 0.2)
    reader, writer = await api.raw()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    connections = api.server._server.server_state.connections  # type: ignore[union-attr]
    await until(lambda: len(connections) == 1)
    for number in range(200):
        await api.post.receive(f"RECEIVED{number}", "x" * 60_000)
    await until(lambda: not connections)
    writer.close()
    del reader


async def test_a_stop_answers_who_waits(api: Served) -> None:
    """A page that was waited for is answered as it is, a message as it stands; at once."""
    api.post.close_session()
    end = (await api.client.get("/events/page")).json()["after"]
    page = asyncio.ensure_future(
        api.client.get("/events/page", params={"after": end, "wait_s": 60, "kind": "alert"})
    )
    body = {"to": "+" + ANNA, "text": "hello"}
    sent = asyncio.ensure_future(api.client.post("/sessions/acme/messages", params={"wait_s": 60}, json=body))
    state = api.server._server.server_state  # type: ignore[union-attr]
    await until(lambda: len(state.tasks) == 2 and len(api.post.messenger.sent("acme")) == 1)
    async with asyncio.timeout(2):
        await api.server.stop()
        assert (await sent).status_code == 202
        assert (await page).json()["events"] == []


async def test_a_stop_ends_streams_in_order(api: Served) -> None:
    """An open stream ends as a whole answer, at once."""
    async with api.client.stream("GET", "/events") as response:
        stopping = asyncio.ensure_future(api.server.stop())
        async with asyncio.timeout(2):
            await response.aread()
            await stopping
