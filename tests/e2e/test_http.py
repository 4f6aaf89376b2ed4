"""The HTTP API before the whole line: pairing, talking, following, ending."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest_asyncio

from standfast.sessions.session import State
from tests.e2e.conftest import Line, shares_loop, until
from tests.files import pdf


@pytest_asyncio.fixture(loop_scope="module")
async def api(http_pair: Line) -> AsyncIterator[httpx.AsyncClient]:
    assert http_pair.service.http is not None
    async with httpx.AsyncClient(base_url=http_pair.service.http.url, timeout=20) as client:
        yield client


@shares_loop
async def test_a_company_is_paired_and_driven(
    http_pair: Line, api: httpx.AsyncClient, new_phone: Callable[[], str]
) -> None:
    """From the QR, as PNG, SVG and text, to an open session; then stop, start, restart and logout."""
    begun = await api.post("/sessions", json={"company": "cargo"})
    assert (begun.status_code, begun.headers["location"]) == (202, "/sessions/cargo")
    png = await api.get("/sessions/cargo/qr", params={"wait_s": 10})
    svg = await api.get("/sessions/cargo/qr", headers={"Accept": "image/svg+xml"})
    prompt = (await api.get("/sessions/cargo/qr", params={"format": "json"})).json()
    assert png.content.startswith(b"\x89PNG")
    assert b"<svg" in svg.content
    assert (prompt["by"], prompt["code"]) == ("qr", None)
    await http_pair.simulator.ask("POST", "/scan", {"qr": prompt["qr"], "phone": new_phone()})
    await http_pair.state("cargo", State.OPEN)
    nothing = await api.get("/sessions/cargo/qr", params={"wait_s": 60})  # answered at once: none will come
    assert nothing.status_code == 404
    assert (await api.post("/sessions/cargo/stop")).json()["wanted"] is False
    assert (await api.post("/sessions/cargo/start")).json()["wanted"] is True
    await http_pair.state("cargo", State.OPEN)
    assert (await api.post("/sessions/cargo/restart")).status_code == 200
    await http_pair.state("cargo", State.OPEN)
    assert (await api.post("/sessions/cargo/logout")).json()["state"] == "logged_out"


@shares_loop
async def test_companies_talk(http_pair: Line, api: httpx.AsyncClient) -> None:
    """A message sent over HTTP comes to the other as an event of the stream; read mark and reaction go back."""
    acme, bolt = ("+" + http_pair.phones[company] for company in ("acme", "bolt"))
    query = {"company": "bolt", "kind": "message"}
    async with api.stream("GET", "/events", params=query) as response:
        lines = response.aiter_lines()
        sent = await api.post(
            "/sessions/acme/messages", params={"wait_s": 10}, json={"to": bolt, "text": "by HTTP"}
        )
        assert sent.status_code == 201
        got = await _event(lines)
    message_id = sent.json()["message_id"]
    assert (got["company"], got["data"]["id"], got["data"]["text"]) == ("bolt", message_id, "by HTTP")
    read = await api.post("/sessions/bolt/read", json={"chat": acme, "message_ids": [message_id]})
    assert read.json() == {"message_ids": [message_id]}
    reaction = {"company": "bolt", "chat": acme, "messageId": message_id, "emoji": "👍"}
    assert (await api.post("/reaction", json=reaction)).json()["status"] == "sent"
    where = f"/sessions/acme/messages/{message_id}"

    async def is_read() -> bool:
        return bool((await api.get(where)).json()["state"] == "read")

    await until(is_read, "the message is read")

    async def is_reacted_to() -> bool:
        page = await api.get("/sessions/acme/messages", params={"direction": "received", "limit": 1})
        (newest,) = page.json()["messages"]
        return (newest["message"]["type"], newest["message"].get("target_id")) == ("reaction", message_id)

    await until(is_reacted_to, "the reaction is in acme's list")


@shares_loop
async def test_a_file_goes_up_and_comes_down(http_pair: Line, api: httpx.AsyncClient) -> None:
    """What is uploaded and sent is at the receiver byte for byte; an upload is sent once; groups are listed."""
    acme, bolt = ("+" + http_pair.phones[company] for company in ("acme", "bolt"))
    content = pdf()
    upload = await api.post("/sessions/acme/uploads", content=content)
    assert (upload.status_code, upload.json()["size_bytes"]) == (201, len(content))
    document = {"type": "document", "upload": upload.json()["upload"], "file_name": "offer.pdf"}
    body, query = {"to": bolt, "content": document}, {"wait_s": 20}
    sent = await api.post("/sessions/acme/messages", params=query, json=body)
    assert sent.status_code == 201, sent.text
    assert (await api.post("/sessions/acme/messages", json=body)).status_code == 404
    message_id = sent.json()["message_id"]
    where = f"/sessions/bolt/messages/{message_id}/file"

    async def came() -> bool:
        return (await api.get(where, params={"chat": acme})).status_code == 200

    await until(came, "the message with the file is there")
    file = await api.get(where, params={"chat": acme})
    assert file.content == content
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''offer.pdf"
    assert file.headers["content-type"] == "application/octet-stream"
    assert (await api.get("/sessions/acme/groups")).json() == {"groups": []}


@shares_loop
async def test_health_knows_the_sessions(api: httpx.AsyncClient) -> None:
    """Open sessions are well; the description and its page are there."""
    health = (await api.get("/health")).json()
    assert health["database"] == "online"
    assert {one["company"]: one["verdict"] for one in health["sessions"]}["acme"] == "ok"
    described = (await api.get("/openapi.json")).json()
    page = (await api.get("/docs")).text
    for path in described["paths"]:
        assert path in page
    examples = [one for methods in described["paths"].values() for one in methods.values()]
    assert all(one["summary"] and one["description"] for one in examples)


async def _event(lines: AsyncIterator[str]) -> dict[str, Any]:
    async with asyncio.timeout(10):
        async for line in lines:
            if line.startswith("data: "):
                found: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return found
    raise AssertionError("the stream ended")
