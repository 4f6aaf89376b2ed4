"""Reactions, read marks and typing.

Invariant: a reaction is a message like any other: on disk before it is answered, sent once, in order for its chat.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import ReadMarks, Sent, Typing
from standfast.api.bodies import ReactionBody, ReadBody, TypingBody, read_json
from standfast.api.messages import accepted
from standfast.api.routes import Answer, CompanyPath, Json, Routes, Wait

_TAG = "chats"
_REACTION = {
    "company": "acme",
    "message_id": "3EB0A1B2C3D4E5F6071829",
    "jid": "79990000002@s.whatsapp.net",
    "content": {"type": "reaction", "to": "3A1B2C3D4E5F60718293", "emoji": "👍"},
    "state": "sent",
    "at": 1790000000.123,
    "changed_at": 1790000000.456,
    "expires_at": 1790086400.123,
    "attempts": 1,
    "error": None,
}


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts

    async def react(request: Request, company: CompanyPath, wait_s: Wait = 0) -> Response:
        """React to a message of a chat, with an emoji; an empty one takes the reaction back. Answers and
        `Idempotency-Key` are as for messages."""
        asked = await read_json(request, ReactionBody)
        content = {"type": "reaction", "to": asked.message_id, "emoji": asked.emoji}
        key = request.headers.get("idempotency-key")
        message = await parts.messenger.send(company, asked.chat, content, idempotency_key=key)
        return accepted(await parts.settled(message, wait_s))

    async def mark_read(request: Request, company: CompanyPath) -> Response:
        """Show messages of a chat as read: those named, or all that came since the last time."""
        asked = await read_json(request, ReadBody)
        return Json({"message_ids": await parts.messenger.read(company, asked.chat, asked.message_ids)})

    async def show_typing(request: Request, company: CompanyPath) -> Response:
        """Show in a chat that the company is typing, for at most 25 s, or that it is not any more."""
        asked = await read_json(request, TypingBody)
        await parts.messenger.typing(company, asked.chat, asked.on, asked.ttl_s)
        return Json({"on": asked.on})

    routes.add(
        "POST",
        "/sessions/{company}/reactions",
        react,
        tag=_TAG,
        scope="send",
        summary="React to a message",
        body=ReactionBody,
        example={"chat": "+79990000002", "message_id": "3A1B2C3D4E5F60718293", "emoji": "👍"},
        answers={
            201: Answer("WhatsApp has it.", Sent, _REACTION),
            202: Answer("It is on disk and will be sent.", Sent, {**_REACTION, "state": "queued"}),
        },
        problems=(404, 409),
    )
    routes.add(
        "POST",
        "/sessions/{company}/read",
        mark_read,
        tag=_TAG,
        scope="send",
        summary="Mark messages as read",
        body=ReadBody,
        example={"chat": "+79990000002"},
        answers={200: Answer("They are.", ReadMarks, {"message_ids": ["3A1B2C3D4E5F60718293"]})},
        problems=(404, 409),
    )
    routes.add(
        "POST",
        "/sessions/{company}/typing",
        show_typing,
        tag=_TAG,
        scope="send",
        summary="Show that the company is typing",
        body=TypingBody,
        example={"chat": "+79990000002", "on": True, "ttl_s": 10},
        answers={200: Answer("It is shown.", Typing, {"on": True})},
        problems=(404, 409),
    )
