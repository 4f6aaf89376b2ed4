"""The HTTP API over a real socket, on messages without Node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from standfast.api.app import make_app
from standfast.api.guard import Guard
from standfast.api.parts import Parts
from standfast.api.server import HttpServer
from standfast.api.token_file import TokenFile
from standfast.health.metrics import Metrics
from standfast.service.alerting import Alerting
from standfast.service.operators import pairing_of
from tests.alerting import alerting_of
from tests.messaging import Post

STATUS = {
    "service": "standfast/0",
    "uptime_s": 1.0,
    "database": {"state": "online"},
    "vault": {"state": "online"},
    "host": {"ready": True},
}


@dataclass
class Served:
    """`client` asks over the socket; `post` is what stands behind; `raw()` speaks bytes."""

    post: Post
    parts: Parts
    tokens: TokenFile
    server: HttpServer
    client: httpx.AsyncClient
    missing: list[str]
    alerting: Alerting

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.server.url.removeprefix("http://").split(":")
        return await asyncio.open_connection(host, int(port))

    async def said(self, request: bytes, timeout_s: float = 5.0) -> bytes:
        """All that the server answers to these bytes until it closes the connection."""
        reader, writer = await self.raw()
        try:
            writer.write(request)
            async with asyncio.timeout(timeout_s):
                return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(
    directory: Path, metrics: Metrics | None = None, public: Sequence[str] = ()
) -> AsyncIterator[Served]:
    """acme's session is open."""
    post = Post(directory / "messages")
    await post.start()
    await post.open()
    tokens = TokenFile(directory)
    missing: list[str] = []

    async def status() -> dict[str, Any]:
        return {**STATUS, "sessions": [one.as_wire() for one in post.pool.sessions()]}

    alerting, _ = alerting_of(directory)
    parts = Parts(
        post.pool,
        post.messenger,
        post.mailbox.log,
        status,
        lambda: missing,
        lambda by, phone, fallback: pairing_of(by, phone, None, fallback=bool(fallback)),
        Guard(tokens, "127.0.0.1", public=public),
        alerting.listed,
        metrics,
    )
    server = HttpServer("127.0.0.1", 0)
    server.bind()
    await server.start(make_app(parts), parts.closing)
    try:
        async with alerting.open(), httpx.AsyncClient(base_url=server.url, timeout=10) as client:
            yield Served(post, parts, tokens, server, client, missing, alerting)
    finally:
        await server.stop()
        await post.stop()
