"""What a hostile or broken client can do to the HTTP API: nothing but be refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from standfast.api import edge, protocol
from standfast.api.bodies import BODY_BYTES
from standfast.api.guard import FAILURES_A_WINDOW
from standfast.api.server import HttpServer
from standfast.errors import PortInUse, SettingsError
from standfast.service.http import HttpDoor
from standfast.settings import Settings
from tests.messaging import ANNA
from tests.serving import Served, serving

MESSAGES = "/sessions/acme/messages"
HELLO = {"to": "+" + ANNA, "text": "hello"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def test_a_huge_body_is_refused(api: Served) -> None:
    """Announced, it is refused before it is read; unannounced, where it passes the limit."""
    head = f"POST {MESSAGES} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    announced = await api.said(f"{head}content-length: {BODY_BYTES + 1}\r\n\r\n".encode())
    assert announced.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_large"' in announced
    chunked = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + b"10000\r\n%b\r\n" % (b"x" * 65_536) * 17
    assert (await api.said(chunked)).startswith(b"HTTP/1.1 413 ")


async def test_what_is_not_json_is_refused(api: Served) -> None:
    """Text that is no JSON, JSON that is too deep, bytes that are no UTF-8, another media type: 4xx."""
    json = {"content-type": "application/json"}
    for content, headers, status in (
        (b"{", json, 400),
        (b"[" * 100_000, json, 422),
        (b'{"to": "\xff"}', json, 400),
        (b"<a/>", {"content-type": "application/xml"}, 415),
    ):
        answer = await api.client.post(MESSAGES, content=content, headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (status, status)


async def test_headers_have_a_size_and_a_time(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large: 431. Never ended: the connection is closed. What is no HTTP is a 400."""
    large = b"GET /health/live HTTP/1.1\r\nhost: 127.0.0.1\r\nx-large: %b\r\n\r\n" % (b"x" * 40_000)
    assert (await api.said(large)).startswith(b"HTTP/1.1 431 ")
    assert (await api.said(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert (await api.said(b"nonsense\r\n\r\n")).endswith(b"}")
    monkeypatch.setattr(protocol, "HEADER_TIMEOUT_S", 0.1)
    assert await api.said(b"GET /health/live HTTP/1.1\r\nx-slow: ") == b""
    assert await api.said(b"") == b""


async def test_connections_have_a_number(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so and closed; when others are gone there is room again."""
    monkeypatch.setattr(protocol, "CONNECTIONS", 1)
    assert (await api.client.get("/health/live")).status_code == 200  # its connection is kept
    assert (await api.said(b"")).startswith(b"HTTP/1.1 503 ")
    assert (await api.client.get("/health/live")).status_code == 200


async def test_a_body_has_a_time(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who announces a body and does not send it is told so."""
    monkeypatch.setattr("standfast.api.bodies.BODY_TIMEOUT_S", 0.1)
    head = f"POST {MESSAGES} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n".encode()
    assert (await api.said(head)).startswith(b"HTTP/1.1 408 ")


async def test_a_fault_shows_nothing_of_the_inside(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 500 is a problem without a trace; the log has that, and the route without what was asked."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(type(api.parts.messenger), "sent", broken)
    with capture_logs() as logged:
        answer = await api.client.get(MESSAGES, params={"chat": "+" + ANNA})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret inside" not in answer.text
    (line,) = [one for one in logged if one["event"] == "a request failed"]
    assert (line["route"], line["method"]) == ("/sessions/{company}/messages", "GET")
    assert isinstance(line["exc_info"], RuntimeError)


async def test_a_request_has_a_deadline(api: Served) -> None:
    """What takes too long is answered with a 503 that may be tried again."""

    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    server = HttpServer("127.0.0.1", 0)
    server.bind()
    inner = edge.Edge(stuck, api.parts.guard, timeout_s=0.1)
    await server.start(inner, asyncio.Event())
    try:
        answer = await api.client.get(server.url + "/sessions")
    finally:
        await server.stop()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_tokens_are_asked_for_as_soon_as_there_are_any(api: Served) -> None:
    """Missing, wrong, expired and revoked: 401; a scope or a company too few: 403; what is right passes."""
    assert (await api.client.get("/sessions")).status_code == 200
    reader, _ = api.tokens.create("reader", ["read"], ["acme"])
    stranger, _ = api.tokens.create("stranger", ["admin"], ["bolt"])
    expired, _ = api.tokens.create("expired", ["admin"], lifetime_s=0.001)
    for token, method, path, status in (
        (None, "GET", "/sessions", 401),
        (None, "GET", "/nothing", 401),
        (None, "GET", "/health/live", 200),
        ("sf_wrong", "GET", "/sessions", 401),
        (expired, "GET", "/sessions", 401),
        (reader, "GET", "/sessions/acme", 200),
        (reader, "POST", MESSAGES, 403),
        (reader, "POST", "/sessions/acme/logout", 403),
        (reader, "GET", "/sessions/bolt/messages", 403),
        (reader, "GET", "/events/page?company=bolt", 403),
        (stranger, "GET", "/sessions/acme", 403),
        (stranger, "POST", "/sessions/acme/stop", 403),
    ):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await api.client.request(
            method, path, headers=headers, json=HELLO if method == "POST" else None
        )
        assert answer.status_code == status, (method, path, answer.text)
        if status in (401, 403):
            assert answer.json()["status"] == status
            assert status == 403 or answer.headers["www-authenticate"].startswith("Bearer ")
    shown = await api.client.get("/sessions", headers={"Authorization": f"Bearer {stranger}"})
    assert shown.json() == {"sessions": []}
    api.tokens.revoke("reader")
    headers = {"Authorization": f"Bearer {reader}"}
    assert (await api.client.get("/sessions/acme", headers=headers)).status_code == 401
    assert api.post.messenger.sent("acme") == []


async def test_guessing_tokens_is_slowed_down(api: Served) -> None:
    """After so many wrong ones in a minute an address is told to wait; the right one still passes."""
    right, _ = api.tokens.create("right", ["read"])
    for _ in range(FAILURES_A_WINDOW):
        await api.client.get("/sessions", headers={"Authorization": "Bearer sf_guess"})
    answer = await api.client.get("/sessions", headers={"Authorization": "Bearer sf_guess"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    passed = await api.client.get("/sessions", headers={"Authorization": f"Bearer {right}"})
    assert passed.status_code == 200


async def test_pages_of_other_sites_get_nowhere(api: Served) -> None:
    """Neither by a name that was made to mean 127.0.0.1, nor by a form or script of theirs."""
    rebound = await api.client.get("/sessions", headers={"Host": "evil.example:3003"})
    assert (rebound.status_code, rebound.json()["code"]) == (421, "misdirected")
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await api.client.post(MESSAGES, json=HELLO, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "access-control-allow-origin" not in (await api.client.get("/sessions")).headers
    assert api.post.messenger.sent("acme") == []


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


async def test_a_port_in_use_is_named(taken: int, tmp_path: Path) -> None:
    """A start ends at once, saying which and what to do; the simulator's takes another."""
    with pytest.raises(PortInUse, match=str(taken)):
        HttpServer("127.0.0.1", taken).bind()
    other = HttpServer("127.0.0.1", taken, any_port=True)
    other.bind()
    assert str(taken) not in other.url
    await other.stop()


def test_other_machines_need_tokens_from_the_start(tmp_path: Path) -> None:
    """At an address that others reach the service does not start before somebody has a token."""
    settings = Settings(state_dir=tmp_path, http_host="0.0.0.0", http_port=0)
    with pytest.raises(SettingsError, match="no token"):
        HttpDoor(settings, tmp_path).bind()
