"""`/sessions`: list, pair, show QR or code, start, stop, restart, log out.

Invariant: a QR or code is shown only to who may administer the company, and never kept by anything on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Annotated, Any, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import Prompt, Session, Sessions
from standfast.api.bodies import CreateBody, PairBody, decode, read_bytes, read_json
from standfast.api.parts import Parts
from standfast.api.routes import JSON, Answer, CompanyPath, Json, Routes, Wait, caller_of
from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, Conflict, NotFound
from standfast.sessions import session as machine
from standfast.sessions.qr import qr_png, qr_svg
from standfast.sessions.session import ENDED, State

_TAG = "sessions"
_PROMPT_POLL_S = 0.05
_SESSION = {
    "company": "acme",
    "state": "open",
    "since_s": 61.5,
    "wanted": True,
    "jid": "79990000001:3@s.whatsapp.net",
    "status": None,
    "reason": None,
    "next_step": None,
}
_PROMPT = {"company": "acme", "by": "code", "qr": None, "code": "ABCD1234", "ttl_s": 43.0}
Format = Annotated[
    Literal["png", "svg", "json"] | None,
    Query(description="The form of the picture; else what `Accept` asks for."),
]
Scale = Annotated[int, Query(ge=1, le=20, description="Pixels a module.", examples=[6])]


class Handlers:
    """The operations' handlers; their docstrings are the operations' descriptions."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def list_sessions(self, request: Request) -> Response:
        """Every session that the token may see."""
        companies = caller_of(request).companies
        shown = [one for one in self._parts.pool.sessions() if companies is None or one.company in companies]
        return Json({"sessions": [one.as_wire() for one in shown]})

    async def get_session(self, company: CompanyPath) -> Response:
        """State, counters, and what to do where it is not open."""
        return Json(self._existing(company).as_wire())

    async def create_session(self, request: Request) -> Response:
        """Begin to pair a company. `GET /sessions/{company}/qr` shows what to scan or to enter."""
        asked = await read_json(request, CreateBody)
        caller_of(request).need("admin", asked.company)
        return await self._paired(asked.company, asked)

    async def pair_session(self, request: Request, company: CompanyPath) -> Response:
        """The same for a company that is known: where its device was unlinked, say. Without a body: by QR."""
        content = await read_bytes(request)
        return await self._paired(company, decode(content, PairBody) if content else PairBody())

    async def get_qr(
        self,
        request: Request,
        company: CompanyPath,
        format: Format = None,  # noqa: A002 - the parameter's name
        scale: Scale = 6,
        wait_s: Wait = 0,
    ) -> Response:
        """The QR to scan with WhatsApp > Linked devices, as PNG, SVG or text in JSON; or, as JSON, the code to enter.
        It changes every 20 s or so. `wait_s`: for one to be there."""
        session = self._existing(company)
        await _prompted(session, wait_s, self._parts.closing)
        if session.prompt is None:
            raise NotFound(
                f"nothing is to be scanned or entered for {company!r}: its session is {session.state.value}",
                next_step=f"Begin with POST /sessions/{company}/pair.",
            )
        wanted = format or _accepted(request.headers.get("accept", ""))
        by = "qr" if session.state is State.QR else "code"
        if wanted != "json" and by == "code":
            raise Conflict(
                "this company is being paired by a code, which is no picture",
                next_step="Ask with ?format=json.",
            )
        return _picture(session, wanted, by, scale)

    async def cancel_pairing(self, company: CompanyPath) -> Response:
        """End a pairing that is not done, and leave nothing of it. Does nothing where none is under way."""
        return Json((await self._parts.pool.cancel_pairing(company)).as_wire())

    async def start_session(self, company: CompanyPath) -> Response:
        """Does nothing where it runs. The company has been paired before."""
        return Json((await self._parts.pool.start(company)).as_wire())

    async def stop_session(self, company: CompanyPath) -> Response:
        """It is not started again by itself; the company stays paired."""
        return Json((await self._parts.pool.stop(company)).as_wire())

    async def restart_session(self, company: CompanyPath) -> Response:
        """End it and start it anew. The answer does not wait until it is open."""
        return Json((await self._parts.pool.restart(company)).as_wire())

    async def logout_session(self, company: CompanyPath) -> Response:
        """Unlink the device at WhatsApp. The company must be paired anew afterwards."""
        return Json((await self._parts.pool.logout(company)).as_wire())

    async def _paired(self, company: str, asked: PairBody) -> Response:
        pairing = self._parts.pairing_of(asked.by, asked.phone, asked.fallback)
        session = await self._parts.pool.pair(company, pairing, confirm=asked.confirm)
        return Json(session.as_wire(), 202, {"Location": f"/sessions/{company}"})

    def _existing(self, company: str) -> machine.Session:
        session = self._parts.pool.session(Company(company))
        if session is None:
            raise CompanyUnknown(f"there is no session of company {company!r}")
        return session


def add(routes: Routes) -> None:
    """The operations of this resource."""
    do = Handlers(routes.parts)
    begun = {202: Answer("Pairing has begun.", Session, {**_SESSION, "state": "connecting"})}
    routes.add(
        "GET",
        "/sessions",
        do.list_sessions,
        tag=_TAG,
        scope="read",
        summary="List the sessions",
        answers={200: Answer("Every session.", Sessions, {"sessions": [_SESSION]})},
    )
    routes.add(
        "POST",
        "/sessions",
        do.create_session,
        tag=_TAG,
        scope="admin",
        summary="Pair a company",
        body=CreateBody,
        example={"company": "acme", "by": "qr"},
        answers=begun,
        problems=(404, 409),
    )
    routes.add(
        "GET",
        "/sessions/{company}",
        do.get_session,
        tag=_TAG,
        scope="read",
        summary="One session",
        answers={200: Answer("The session.", Session, _SESSION)},
        problems=(404,),
    )
    routes.add(
        "POST",
        "/sessions/{company}/pair",
        do.pair_session,
        tag=_TAG,
        scope="admin",
        summary="Pair it, or pair it anew",
        body=PairBody,
        example={"by": "code", "phone": "+79990000001"},
        body_is_optional=True,
        answers=begun,
        problems=(404, 409),
    )
    routes.add(
        "GET",
        "/sessions/{company}/qr",
        do.get_qr,
        tag=_TAG,
        scope="admin",
        summary="The QR or code to pair with",
        answers={200: Answer("QR or code.", Prompt, _PROMPT, ("image/png", "image/svg+xml", JSON))},
        problems=(404, 409),
    )
    routes.add(
        "DELETE",
        "/sessions/{company}/pair",
        do.cancel_pairing,
        tag=_TAG,
        scope="admin",
        summary="End a pairing",
        answers={200: Answer("The session as it stands now.", Session, {**_SESSION, "state": "closed"})},
        problems=(404, 409),
    )
    for verb, handler, summary in (
        ("start", do.start_session, "Start the session"),
        ("stop", do.stop_session, "Stop the session"),
        ("restart", do.restart_session, "Restart the session"),
        ("logout", do.logout_session, "Log the company out"),
    ):
        routes.add(
            "POST",
            f"/sessions/{{company}}/{verb}",
            handler,
            tag=_TAG,
            scope="admin",
            summary=summary,
            answers={200: Answer("The session as it stands now.", Session, _SESSION)},
            problems=(404, 409),
        )


async def _prompted(session: machine.Session, wait_s: float, closing: asyncio.Event) -> None:
    deadline = time.monotonic() + wait_s
    while session.prompt is None and _may_prompt(session) and time.monotonic() < deadline:
        if closing.is_set():
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), _PROMPT_POLL_S)


def _may_prompt(session: machine.Session) -> bool:
    """Whether a QR or code may still come. One that WhatsApp asks for anew comes without a wish to pair."""
    if session.pairing is not None:
        return True
    return session.wanted and session.state not in ENDED and session.state is not State.OPEN


def _accepted(accept: str) -> str:
    """PNG for browsers and `curl`; JSON and SVG where they are asked for by name."""
    for media_type, name in ((JSON, "json"), ("image/png", "png"), ("image/svg+xml", "svg")):
        if media_type in accept:
            return name
    return "png"


def _picture(session: machine.Session, wanted: str, by: str, scale: int) -> Response:
    text = session.prompt or ""
    if wanted == "png":
        return Response(qr_png(text, scale), media_type="image/png")
    if wanted == "svg":
        return Response(qr_svg(text, scale), media_type="image/svg+xml")
    ttl_s = max(0.0, round(session.prompt_ends_at - time.monotonic(), 1))
    document: dict[str, Any] = {
        "company": session.company,
        "by": by,
        "qr": None,
        "code": None,
        "ttl_s": ttl_s,
    }
    return Json({**document, by: text})
