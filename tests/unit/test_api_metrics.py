"""`/metrics` over a real socket: who may read it, and in which format."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from standfast.api.metrics import PATH
from standfast.api.token_file import TokenFile
from standfast.health.metrics import Metrics
from standfast.service.http import HttpDoor
from standfast.settings import Settings
from tests.health_documents import full_health, session_wires, tallies
from tests.messaging import Post
from tests.serving import Served, serving


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(full_health, lambda: session_wires(3), tallies)


async def raw(api: Served, method: str, accept_encoding: str = "identity") -> tuple[str, bytes]:
    said = await api.said(
        f"{method} {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        f"accept-encoding: {accept_encoding}\r\n\r\n".encode()
    )
    head, _, body = said.partition(b"\r\n\r\n")
    return head.decode().lower(), body


async def test_formats(tmp_path: Path, metrics: Metrics) -> None:
    """Prometheus' text, OpenMetrics where it is asked for, compressed where that is, and HEAD without a body."""
    async with serving(tmp_path, metrics) as api:
        plain = await api.client.get(PATH)
        assert plain.status_code == 200
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'standfast_session_open{company="co-0000"} 1.0' in plain.text
        head, packed = await raw(api, "GET", "gzip")
        assert "content-encoding: gzip" in head
        assert b"standfast_build_info" in gzip.decompress(packed)
        head, body = await raw(api, "HEAD")
        assert head.startswith("http/1.1 200 ")
        assert body == b""
        accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"}
        openmetrics = await api.client.get(PATH, headers=accept)
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("# EOF\n")
        assert openmetrics.headers["vary"] == "Accept, Accept-Encoding"


async def test_a_token_is_asked_for(tmp_path: Path, metrics: Metrics) -> None:
    """Once there is one; a token for single companies sees theirs alone, one without the scope nothing."""
    async with serving(tmp_path, metrics) as api:
        reader, _ = api.tokens.create("prometheus", ["read"])
        tenant, _ = api.tokens.create("tenant", ["read"], ["co-0001"])
        sender, _ = api.tokens.create("sender", ["send"])
        assert (await api.client.get(PATH)).status_code == 401
        assert (await api.client.head(PATH)).status_code == 401
        for text, status in ((reader, 200), (tenant, 200), (sender, 403)):
            answer = await api.client.get(PATH, headers={"authorization": f"Bearer {text}"})
            assert answer.status_code == status
            seen = 'company="co-0000"' in answer.text
            assert seen is (text == reader)


async def test_open_asks_nobody(tmp_path: Path, metrics: Metrics) -> None:
    """Of all paths this one alone."""
    async with serving(tmp_path, metrics, public=[PATH]) as api:
        api.tokens.create("reader", ["read"])
        assert (await api.client.get(PATH)).status_code == 200
        assert (await api.client.get("/health")).status_code == 401
        described = (await api.client.get("/openapi.json")).json()["paths"][PATH]["get"]
        assert "security" not in described


async def test_off_serves_none(tmp_path: Path) -> None:
    """The path is not there, and not described."""
    async with serving(tmp_path) as api:
        assert (await api.client.get(PATH)).status_code == 404
        assert PATH not in (await api.client.get("/openapi.json")).json()["paths"]


async def test_it_is_described(tmp_path: Path, metrics: Metrics) -> None:
    """As text, with its scope, and with nothing said of HEAD."""
    async with serving(tmp_path, metrics) as api:
        described = (await api.client.get("/openapi.json")).json()["paths"][PATH]
    assert described.keys() == {"get"}
    assert "text/plain" in described["get"]["responses"]["200"]["content"]
    assert described["get"]["security"]


@pytest.mark.parametrize(
    ("metrics", "statuses"), [("token", (401, 200)), ("open", (200, 200)), ("off", (401, 404))]
)
async def test_the_setting_decides(
    tmp_path: Path, metrics: Literal["token", "open", "off"], statuses: tuple[int, int]
) -> None:
    """STANDFAST_METRICS, as the service opens its door, for who shows no token where there is one, and who does."""
    post = Post(tmp_path / "messages")
    await post.start()
    door = HttpDoor(Settings(state_dir=tmp_path, http_port=0, metrics=metrics), tmp_path)
    reader, _ = TokenFile(tmp_path).create("reader", ["read"])
    door.bind()
    try:
        nothing: Any = None  # what answers no request of this test
        await door.start(post.pool, post.messenger, nothing, nothing, nothing, nothing, full_health)
        async with httpx.AsyncClient(base_url=door.url, timeout=10) as client:
            anonymous = await client.get(PATH)
            known = await client.get(PATH, headers={"authorization": f"Bearer {reader}"})
    finally:
        await door.stop()
        await post.stop()
    assert (anonymous.status_code, known.status_code) == statuses
