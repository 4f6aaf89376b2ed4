"""`/events`: what happens, as server-sent events or, for who asks again and again, as pages.

Invariant: who goes on from the last number that he has seen misses nothing that is kept, and gets nothing twice.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import Events
from standfast.api.edge import asked_of
from standfast.api.routes import JSON, Answer, Json, Routes, Wait, caller_of
from standfast.api.stream import EventStream
from standfast.errors import TooManyRequests
from standfast.messaging.paging import read_page

_TAG = "events"
STREAMS_AT_ONCE = 200
_EVENT = {
    "number": 42,
    "company": "acme",
    "kind": "message",
    "at": 1790000001.5,
    "data": {
        "id": "3A1B2C3D4E5F60718293",
        "chat": "79990000002@s.whatsapp.net",
        "type": "text",
        "text": "Hi",
    },
}
Companies = Annotated[
    list[Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{1,50}$")]],
    Query(alias="company", max_length=50, description="Only these companies; may be given again."),
]
Kinds = Annotated[
    list[Annotated[str, Query(pattern=r"^[a-z_]{1,30}$")]],
    Query(
        alias="kind",
        max_length=20,
        description="Only these kinds: message, receipt, state, alert; may be given again.",
    ),
]
After = Annotated[
    int | None, Query(ge=0, le=2**62, description="The last event that was seen; 0 for all that are kept.")
]
LastEventId = Annotated[
    int | None,
    Header(ge=0, le=2**62, description="The same, as a browser's `EventSource` sends it; it counts first."),
]
Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts
    open_streams: set[object] = set()

    async def stream_events(
        request: Request,
        company: Companies = [],  # noqa: B006 - FastAPI makes a new one for each request
        kind: Kinds = [],  # noqa: B006
        after: After = None,
        last_event_id: LastEventId = None,
    ) -> Response:
        """Server-sent events: `id` is the event's number, `event` its kind, `data` the event as JSON. A comment comes
        every 15 s where nothing else does. Go on after a break with `Last-Event-ID` or `?after=`; without either
        it begins now. A client that does not read is cut off."""
        companies = companies_of(request, company)
        place = last_event_id if last_event_id is not None else after
        # What cannot be is refused as a problem, before the stream begins.
        page = await read_page(parts.log, place, limit=1)
        if len(open_streams) >= STREAMS_AT_ONCE:
            raise TooManyRequests(f"{STREAMS_AT_ONCE} streams of events are open already")
        asked = asked_of(request.scope)
        return EventStream(
            parts.log,
            page.after if place is None else place,
            companies=companies,
            kinds=kind,
            closing=parts.closing,
            may_go_on=lambda: parts.guard.admit(asked),
            among=open_streams,
        )

    async def list_events(
        request: Request,
        company: Companies = [],  # noqa: B006
        kind: Kinds = [],  # noqa: B006
        after: After = None,
        limit: Limit = 100,
        wait_s: Wait = 0,
    ) -> Response:
        """Events above `after`, oldest first; where there is none, what comes within `wait_s`. Without `after`, an
        empty page at the log's end."""
        companies = companies_of(request, company)
        read = partial(read_page, parts.log, after, companies=companies, kinds=kind, limit=limit)
        return Json(await parts.unless_closing(read(wait_s=wait_s)) or await read())

    routes.add(
        "GET",
        "/events",
        stream_events,
        tag=_TAG,
        scope="read",
        summary="Follow events as they happen",
        answers={200: Answer("Events, without end.", None, None, ("text/event-stream",))},
    )
    routes.add(
        "GET",
        "/events/page",
        list_events,
        tag=_TAG,
        scope="read",
        summary="A page of events",
        answers={200: Answer("A page.", Events, {"events": [_EVENT], "after": 42}, (JSON,))},
    )


def companies_of(request: Request, asked: list[str]) -> list[str]:
    """The companies to be told of; empty for all. Raises `Forbidden`."""
    caller = caller_of(request)
    for company in asked:
        caller.need("read", company)
    if asked or caller.companies is None:
        return asked
    return list(caller.companies)
