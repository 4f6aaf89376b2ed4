"""`/send` and `/reaction`: what small Baileys bots have served, for callers that nobody wants to change.

Invariant: they go the way of every other message; only names and the form of the answer are of old.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from standfast.api import problems
from standfast.api.answers import LegacySent, encode
from standfast.api.bodies import read_bytes
from standfast.api.guard import Caller
from standfast.api.legacy_names import fields_of, read_reaction, read_send
from standfast.api.routes import Answer, Json, Routes, caller_of
from standfast.authstate.company import company_id
from standfast.errors import CompanyUnknown, StandfastError, UsageError, from_wire
from standfast.messaging.outgoing import Outgoing, State

_TAG = "legacy"
# Bots answered when WhatsApp had the message; a session that is just coming back is not worth a caller's timeout.
WAIT_S = 10.0
_ANSWER = {"success": True, "messageId": "3EB0A1B2C3D4E5F6071829", "status": "sent"}


class LegacySend(msgspec.Struct):
    """`to` may also be called phone, number, jid, chat, chatId, recipient; `message` also text, msg, body; `company`
    also company_id, companyId, session, sessionId. Without a company the only session there is."""

    to: str
    message: str
    company: str | None = None


class LegacyReaction(msgspec.Struct):
    """Names as for `/send`; or Baileys' own `key` in place of the first two."""

    to: str
    messageId: str  # noqa: N815 - the name that callers use
    emoji: str
    company: str | None = None


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts

    def company_of(caller: Caller, named: str | None) -> str:
        if named is None:
            sessions = [one.company for one in parts.pool.sessions() if _covers(caller, one.company)]
            if len(sessions) != 1:
                raise _unclear(len(sessions))
            named = sessions[0]
        company = company_id(named)
        caller.need("send", company)
        return company

    @_answered
    async def legacy_send(request: Request) -> Response:
        """Send a text: JSON or a form. 200 with `success` once WhatsApp has it, or after 10 s with `status`
        queued: it is on disk and will be sent."""
        asked = read_send(await _fields(request))
        company = company_of(caller_of(request), asked.company)
        content = {"type": "text", "text": asked.text}
        key = request.headers.get("idempotency-key")
        message = await parts.messenger.send(company, asked.to, content, idempotency_key=key)
        return _sent(await parts.settled(message, WAIT_S))

    @_answered
    async def legacy_reaction(request: Request) -> Response:
        """React to a message: JSON or a form. Answers are as for `/send`."""
        asked = read_reaction(await _fields(request))
        company = company_of(caller_of(request), asked.company)
        content = {"type": "reaction", "to": asked.message_id, "emoji": asked.emoji}
        message = await parts.messenger.send(company, asked.chat, content)
        return _sent(await parts.settled(message, WAIT_S))

    routes.add(
        "POST",
        "/send",
        legacy_send,
        tag=_TAG,
        scope="send",
        summary="Send a text, as small bots have it",
        body=LegacySend,
        example={"to": "+79990000002", "message": "Hello"},
        answers={200: Answer("It was sent, or will be.", LegacySent, _ANSWER)},
        problems=(404, 409),
    )
    routes.add(
        "POST",
        "/reaction",
        legacy_reaction,
        tag=_TAG,
        scope="send",
        summary="React, as small bots have it",
        body=LegacyReaction,
        example={"to": "+79990000002", "messageId": "3A1B2C3D4E5F60718293", "emoji": "👍"},
        answers={200: Answer("It was sent, or will be.", LegacySent, _ANSWER)},
        problems=(404, 409),
    )


def _answered(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Problems that old callers understand too: with `success` and `error`."""

    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except StandfastError as error:
            document = {**problems.document(error), "success": False, "error": error.message}
            return Response(
                encode(document), problems.status_of(error), problems.headers(error), problems.MEDIA_TYPE
            )

    return answer


async def _fields(request: Request) -> dict[str, Any]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return fields_of(await read_bytes(request), media_type)


def _sent(message: Outgoing) -> Response:
    if message.state is State.FAILED:
        raise from_wire(message.error or {"code": "send_failed", "message": "the message was not sent"})
    return Json(LegacySent(success=True, messageId=message.message_id, status=message.state.word))


def _covers(caller: Caller, company: str) -> bool:
    return caller.token is None or caller.token.covers(company)


def _unclear(count: int) -> StandfastError:
    if count == 0:
        return CompanyUnknown("there is no session to send with")
    return UsageError(
        f"there are {count} sessions, and the request names none", next_step="Name one with 'company'."
    )
