"""`Edge`: what every request passes before anything else: limits, who asks, a deadline; and what every answer gets.

Invariant: whatever happens inside, the client gets one whole answer or a connection that is closed; no stack trace.
"""

from __future__ import annotations

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standfast.api import problems
from standfast.api.answers import encode
from standfast.api.bodies import BODY_BYTES, too_large
from standfast.api.guard import Asked, Guard
from standfast.errors import ServiceUnavailable, StandfastError

log = structlog.get_logger(__name__)
REQUEST_TIMEOUT_S = 90.0  # above the longest wait that a request may ask for
STREAMS = frozenset({"/events"})
UPLOADS = "/uploads"
UNNAMED = "the service met a fault that it has no name for"
_WANTED = {b"host", b"origin", b"sec-fetch-site", b"authorization"}
_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Edge:
    """The outermost application; sets `scope["caller"]` for what is inside."""

    def __init__(
        self,
        app: ASGIApp,
        guard: Guard,
        timeout_s: float = REQUEST_TIMEOUT_S,
        upload_bytes: int = BODY_BYTES,
    ) -> None:
        self._app = app
        self._upload_bytes = upload_bytes
        self._guard = guard
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = False

        async def reply(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = [*message.get("headers", ()), *_ALWAYS]
            await send(message)

        try:
            await self._serve(scope, receive, reply)
        except Exception as error:  # noqa: BLE001 - the last place that can answer
            known = _known(error, scope)
            if not began:
                await refuse(reply, known)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = asked_of(scope)
        scope["caller"] = self._guard.admit(asked)
        _check_length(scope, self._upload_bytes if asked.path.endswith(UPLOADS) else BODY_BYTES)
        if asked.path in STREAMS:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._app(scope, receive, send)
        except TimeoutError:
            raise ServiceUnavailable(
                f"the request took longer than {self._timeout_s:g} s", next_step="Try again."
            ) from None


def asked_of(scope: Scope) -> Asked:
    """What of a request decides."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _WANTED:
            # Of two that differ, none can be trusted.
            found[name] = value.decode("latin-1") if name not in found else ""
    client = scope.get("client")
    return Asked(
        scope["method"],
        scope["path"],
        client[0] if client else "",
        found.get(b"host"),
        found.get(b"origin"),
        found.get(b"sec-fetch-site"),
        found.get(b"authorization"),
    )


async def refuse(send: Send, error: StandfastError) -> None:
    """Answer with a problem, and close the connection: what is left of the request is not read."""
    body = encode(problems.document(error))
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", problems.MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    headers += [(name.lower().encode(), value.encode()) for name, value in problems.headers(error).items()]
    await send({"type": "http.response.start", "status": problems.status_of(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _check_length(scope: Scope, limit: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > limit):
            raise too_large(limit)


def _known(error: Exception, scope: Scope) -> StandfastError:
    if isinstance(error, StandfastError):
        return error
    log.error("a request failed", method=scope["method"], route=route_of(scope), exc_info=error)
    return StandfastError(UNNAMED)


def route_of(scope: Scope) -> str | None:
    """The route's pattern: a path may hold what is nobody's business."""
    return getattr(scope.get("route"), "path", None)
