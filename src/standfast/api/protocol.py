"""`BoundedProtocol`: uvicorn's HTTP/1.1 connection with limits on what comes before a request's body.

Invariant: who sends headers slowly, without end, or none at all holds a connection for seconds, and no memory.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from standfast.api import problems
from standfast.api.answers import encode
from standfast.api.problems import HttpProblem
from standfast.errors import ServiceUnavailable, StandfastError

HEADER_BYTES = 32 * 1024
HEADER_TIMEOUT_S = 10.0
CONNECTIONS = 1_000


class _TooLarge(Exception):
    """Raised through the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > CONNECTIONS:
            self._refuse(
                ServiceUnavailable("too many connections are open", next_step="Close some, or wait.")
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, or what a limit made it refuse."""
        if self._head_bytes > HEADER_BYTES:
            self._refuse(
                HttpProblem("header_too_large", f"path and headers have more than {HEADER_BYTES} bytes")
            )
        else:
            self._refuse(HttpProblem("malformed", "this is no HTTP request"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self.scope["extensions"] = {"standfast.abort": self.transport.abort}  # type: ignore[dict-item]
        if self._deadline is None:
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEADER_BYTES:
            raise _TooLarge

    def _refuse(self, error: StandfastError) -> None:
        body, status = encode(problems.document(error)), problems.status_of(error)
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {problems.MEDIA_TYPE}\r\n"
        self.transport.write(
            f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
        )
        self.transport.close()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self.transport.abort)

    def _head_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
