"""`/alerts`: what operators were told of, and what goes on.

Invariant: a token for single companies sees theirs alone, and nothing of the node.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import Alerts
from standfast.api.events import Companies, companies_of
from standfast.api.routes import Answer, Json, Routes

_ALERT = {
    "id": "0b6f6a1c1f0f4b7c9d3d0f6f3a2b1c0d",
    "name": "session_replaced",
    "level": "error",
    "message": "acme was replaced and does not connect again by itself: another client of WhatsApp logged in",
    "since": 1790000000.5,
    "last_at": 1790000000.5,
    "lasts": True,
    "open": True,
    "ended": None,
    "duration_s": 61.0,
    "count": 1,
    "returns": 0,
    "company": "acme",
    "subject": "company_id=acme",
    "next_step": "Stop the other client, then 'standfast restart acme'.",
}
Since = Annotated[
    float,
    Query(ge=0, le=30 * 86_400, allow_inf_nan=False, description="Those reported within so many seconds."),
]
OnlyOpen = Annotated[bool, Query(alias="open", description="Only those that go on.")]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many at most.")]


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts

    async def list_alerts(
        request: Request,
        company: Companies = [],  # noqa: B006 - FastAPI makes a new one for each request
        since_s: Since = 86_400,
        only_open: OnlyOpen = False,
        limit: Limit = 200,
    ) -> Response:
        """Newest first; those that go on are told however old they are."""
        companies = companies_of(request, company)
        document: dict[str, Any] = await parts.alerts(since_s, only_open, companies, limit)
        return Json({"alerts": document["alerts"]})

    routes.add(
        "GET",
        "/alerts",
        list_alerts,
        tag="alerts",
        scope="read",
        summary="What operators were told of",
        answers={200: Answer("Alerts.", Alerts, {"alerts": [_ALERT]})},
    )
