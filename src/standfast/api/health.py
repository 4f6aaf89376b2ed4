"""`/health`: whether the process lives, can take work, and how each session stands.

Invariant: nothing here waits on PostgreSQL or a session.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import Health, Live, Ready, SessionHealth, encode
from standfast.api.routes import JSON, Answer, CompanyPath, Json, Routes, caller_of
from standfast.api.verdicts import health, session_health
from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown

_LIVE = encode(Live("live"))
_TAG = "health"
_SESSION = {
    "company": "acme",
    "verdict": "ok",
    "state": "open",
    "judged_by": "traffic",
    "last_frame_age_s": 4.2,
    "last_message_age_s": 61.0,
    "reason": None,
    "next_step": None,
}
_HEALTH = {
    "status": "ok",
    "service": "standfast/0.1.0",
    "uptime_s": 3600.0,
    "database": "online",
    "vault": "online",
    "host_ready": True,
    "waiting": 0,
    "sessions": [_SESSION],
}


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts

    async def get_health(request: Request) -> Response:
        """The service, PostgreSQL, the messages that wait, and a verdict on each session that the token may see."""
        companies = caller_of(request).companies
        waiting = sum(
            count
            for company, count in parts.messenger.outbox.waiting().items()
            if companies is None or company in companies
        )
        return Json(health(await parts.status(), waiting, companies))

    async def get_live() -> Response:
        """For a supervisor: the process answers. Needs no token."""
        return Response(_LIVE, media_type=JSON)

    async def get_ready() -> Response:
        """For a load balancer: 200 where messages and sessions can be taken, else 503. Needs no token."""
        missing = parts.missing()
        return Json(Ready("not_ready" if missing else "ready", missing), 503 if missing else 200)

    async def get_session_health(company: CompanyPath) -> Response:
        """200 where the session stands (or is meant not to), 503 where it is down or quiet."""
        session = parts.pool.session(Company(company))
        if session is None:
            raise CompanyUnknown(f"there is no session of company {company!r}")
        found = session_health(session.as_wire())
        return Json(found, 503 if found.verdict in ("down", "quiet") else 200)

    routes.add(
        "GET",
        "/health",
        get_health,
        tag=_TAG,
        scope="read",
        summary="How the service and its sessions stand",
        answers={200: Answer("The summary.", Health, _HEALTH)},
    )
    routes.add(
        "GET",
        "/health/live",
        get_live,
        tag=_TAG,
        scope=None,
        summary="The process lives",
        answers={200: Answer("It does.", Live, {"status": "live"})},
    )
    routes.add(
        "GET",
        "/health/ready",
        get_ready,
        tag=_TAG,
        scope=None,
        summary="Work can be taken",
        answers={
            200: Answer("It can.", Ready, {"status": "ready", "missing": []}),
            503: Answer("It cannot.", Ready, {"status": "not_ready", "missing": ["host"]}),
        },
    )
    routes.add(
        "GET",
        "/health/sessions/{company}",
        get_session_health,
        tag=_TAG,
        scope="read",
        summary="How one session stands",
        answers={
            200: Answer("It stands.", SessionHealth, _SESSION),
            503: Answer("It does not.", SessionHealth, {**_SESSION, "verdict": "down", "state": "closed"}),
        },
        problems=(404,),
    )
