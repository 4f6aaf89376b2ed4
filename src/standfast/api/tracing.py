"""`RequestSpans`: each HTTP request as a span of OpenTelemetry, a child of its caller's where that sends one.

Invariant: it is there only where tracing is on; a span names the route, never the path.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standfast.api.edge import STREAMS, route_of
from standfast.health import tracing


def traced(app: ASGIApp) -> ASGIApp:
    """The same application; itself where tracing is off."""
    return RequestSpans(app) if tracing.is_on() else app


class RequestSpans:
    """Outside of everything that answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in STREAMS:
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        parent = tracing.from_headers(_trace_headers(scope))
        with tracing.span(method, "server", {"http.request.method": method}, parent) as span:
            await self._app(scope, receive, noted)
            if span is not None:
                _describe(span, method, route_of(scope), status)


def _describe(span: Any, method: str, route: str | None, status: int | None) -> None:
    if route is not None:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if status is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_attribute("error.type", str(status))


def _trace_headers(scope: Scope) -> dict[str, str]:
    wanted = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in wanted}
