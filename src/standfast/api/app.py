"""The application: every resource, errors as problems, and the description of it all.

Invariant: whatever goes wrong is answered as a problem document, also an unknown path or method.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp

from standfast.api import (
    alerts,
    chats,
    events,
    files,
    groups,
    health,
    legacy,
    messages,
    metrics,
    problems,
    sessions,
)
from standfast.api.answers import encode
from standfast.api.edge import UNNAMED, Edge
from standfast.api.page import page_of
from standfast.api.parts import Parts
from standfast.api.problems import HttpProblem
from standfast.api.routes import JSON, Routes
from standfast.api.tracing import traced
from standfast.errors import NotFound, StandfastError, UsageError

_DESCRIPTION = (
    "WhatsApp sessions that stand when PostgreSQL falls. Every error is `application/problem+json` (RFC 9457) with "
    "`code`, `next_step` and `retryable`. A message that was accepted is on disk and is sent once, in order for its "
    "chat."
)
# FastAPI's own names each request's path and query, and a query may hold a phone number.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
RESOURCES = (health, metrics, sessions, messages, chats, groups, files, events, alerts, legacy)
_OF_HTTP = {404: "not_found", 405: "method_not_allowed", 400: "malformed", 413: "too_large"}


def make_app(parts: Parts) -> ASGIApp:
    """The whole application, limits and tokens included."""
    edge = Edge(make_api(parts).app, parts.guard, upload_bytes=parts.messenger.media.max_bytes)
    return traced(edge)


def make_api(parts: Parts) -> Routes:
    """The resources alone."""
    app = FastAPI(
        title="Standfast",
        version=version("standfast"),
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    routes = Routes(app, parts)
    for resource in RESOURCES:
        resource.add(routes)
    _describe(routes)
    app.add_exception_handler(StandfastError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_fault)
    return routes


def _describe(routes: Routes) -> None:
    app = routes.app
    written: dict[str, bytes] = {}

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(
                title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes
            )
            app.openapi_schema = routes.describe(found)
        return app.openapi_schema

    async def describe() -> Response:
        if "json" not in written:
            written["json"] = encode(schema())
        return Response(written["json"], media_type=JSON)

    async def show() -> Response:
        if "page" not in written:
            written["page"] = page_of(schema()).encode()
        return Response(
            written["page"],
            media_type="text/html",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    async def begin() -> Response:
        return RedirectResponse("/docs")

    app.openapi = schema  # type: ignore[method-assign]
    app.add_api_route("/openapi.json", describe, include_in_schema=False, response_model=None)
    app.add_api_route("/docs", show, include_in_schema=False, response_model=None)
    app.add_api_route("/", begin, include_in_schema=False, response_model=None)


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StandfastError)
    return _problem(error)


async def _answer_fault(_request: Request, _error: Exception) -> Response:
    """`Edge`, which it is raised to afterwards, writes it down."""
    return _problem(StandfastError(UNNAMED))


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = problems.wrong_fields(error.errors())
    where = ", ".join(sorted({one["where"] for one in wrong}))
    known = UsageError(f"wrong in the request: {where}", next_step="See docs/http.md, or /docs.")
    return _problem(known, errors=wrong)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request)))
        known: StandfastError = HttpProblem("method_not_allowed", f"this path takes {allowed}")
        return _problem(known, {"Allow": allowed})
    if error.status_code == 404:
        return _problem(NotFound("there is nothing at this path", next_step="See /docs."))
    return _problem(
        HttpProblem(_OF_HTTP.get(error.status_code, "malformed"), "the request could not be read")
    )


def _methods(request: Request) -> set[str]:
    found: set[str] = set()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


def _problem(error: StandfastError, more: dict[str, str] | None = None, **members: Any) -> Response:
    document = {**problems.document(error), **members}
    headers = {**problems.headers(error), **(more or {})}
    if problems.status_of(error) in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(encode(document), problems.status_of(error), headers, problems.MEDIA_TYPE)
