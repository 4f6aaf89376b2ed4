"""`/sessions/{company}/messages`: send, list, look at one, cancel.

Invariant: 201 and 202 mean that the message is on this machine's disk; a failed one is never answered as a success.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from standfast.api.answers import Messages, Sent
from standfast.api.bodies import SendBody, read_json
from standfast.api.listing import page_of
from standfast.api.routes import Answer, CompanyPath, Json, Routes, Wait
from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, NotFound, StandfastError, UsageError, from_wire
from standfast.messaging.messenger import Messenger
from standfast.messaging.outgoing import Outgoing, State

_TAG = "messages"
_SENT = {
    "company": "acme",
    "message_id": "3EB0A1B2C3D4E5F6071829",
    "jid": "79990000002@s.whatsapp.net",
    "content": {"type": "text", "text": "Hello"},
    "state": "sent",
    "at": 1790000000.123,
    "changed_at": 1790000000.456,
    "expires_at": 1790086400.123,
    "attempts": 1,
    "error": None,
}
_RECEIVED = {
    "direction": "received",
    "company": "acme",
    "message_id": "3A1B2C3D4E5F60718293",
    "at": 1790000001.5,
    "number": 42,
    "message": {
        "id": "3A1B2C3D4E5F60718293",
        "chat": "79990000002@s.whatsapp.net",
        "type": "text",
        "text": "Hi",
    },
}
_LIST = {"messages": [_RECEIVED, {"direction": "sent", **_SENT}], "next": None}
Direction = Annotated[Literal["all", "sent", "received"], Query(description="Which messages.")]
Chat = Annotated[
    str | None,
    Query(max_length=120, description="Only with this phone number or address.", examples=["+79990000002"]),
]
StateQuery = Annotated[
    Literal["queued", "sending", "sent", "delivered", "read", "played", "failed"] | None,
    Query(description="Only what was to be sent and stands so."),
]
Before = Annotated[
    str | None, Query(max_length=40, pattern=r"^[0-9]{1,19}\.[0-9]{1,19}$", description="`next` of a page.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]


def add(routes: Routes) -> None:
    """The operations of this resource."""
    parts = routes.parts

    async def send_message(request: Request, company: CompanyPath, wait_s: Wait = 0) -> Response:
        """Accept a message and send it as soon as the session is open: 202 while it waits or is on its way, 201 once
        WhatsApp has it (within `wait_s`). Repeated with the same `Idempotency-Key` it is sent once, and answered
        with how it stands; the same key for another message is a 409."""
        asked = await read_json(request, SendBody)
        key = request.headers.get("idempotency-key")
        message = await parts.messenger.send(
            company, asked.to, asked.sendable(), idempotency_key=key, lifetime_s=asked.lifetime_s
        )
        return accepted(await parts.settled(message, wait_s))

    async def list_messages(
        company: CompanyPath,
        direction: Direction = "all",
        chat: Chat = None,
        state: StateQuery = None,
        before: Before = None,
        limit: Limit = 50,
    ) -> Response:
        """Messages that are kept (7 days, unless the settings say otherwise), newest first."""
        check_known(routes, company)
        page = page_of(
            parts.messenger, company, direction=direction, chat=chat, state=state, before=before, limit=limit
        )
        return Json(page)

    async def get_message(company: CompanyPath, message_id: str) -> Response:
        """A message that was to be sent, and how far it has come: queued, sending, sent, delivered, read, played or
        failed with `error`."""
        return Json(existing(parts.messenger, company, message_id).as_wire())

    async def cancel_message(company: CompanyPath, message_id: str) -> Response:
        """Do not send a message that is still queued; one that has left cannot be called back (409)."""
        existing(parts.messenger, company, message_id)
        try:
            parts.messenger.cancel(company, message_id)
        except UsageError as error:
            raise TooLate(error.message, next_step=error.next_step) from None
        return Json(existing(parts.messenger, company, message_id).as_wire())

    path = "/sessions/{company}/messages"
    routes.add(
        "POST",
        path,
        send_message,
        tag=_TAG,
        scope="send",
        summary="Send a message",
        body=SendBody,
        example={"to": "+79990000002", "text": "Hello"},
        answers={
            201: Answer("WhatsApp has it.", Sent, _SENT),
            202: Answer("It is on disk and will be sent.", Sent, {**_SENT, "state": "queued", "attempts": 0}),
        },
        problems=(404, 409),
    )
    routes.add(
        "GET",
        path,
        list_messages,
        tag=_TAG,
        scope="read",
        summary="List messages, sent and received",
        answers={200: Answer("A page.", Messages, _LIST)},
        problems=(404,),
    )
    routes.add(
        "GET",
        path + "/{message_id}",
        get_message,
        tag=_TAG,
        scope="read",
        summary="One message with its delivery state",
        answers={200: Answer("The message.", Sent, _SENT)},
        problems=(404,),
    )
    routes.add(
        "DELETE",
        path + "/{message_id}",
        cancel_message,
        tag=_TAG,
        scope="send",
        summary="Cancel a queued message",
        answers={200: Answer("It will not be sent.", Sent, {**_SENT, "state": "failed"})},
        problems=(404, 409),
    )


class TooLate(StandfastError):
    """What was asked for was possible before."""

    code = "conflict"


def accepted(message: Outgoing) -> Response:
    """The answer to a message that was taken; raises what it failed with."""
    if message.state is State.FAILED:
        error = from_wire(message.error or {"code": "send_failed", "message": "the message was not sent"})
        error.facts = {**error.facts, "message_id": message.message_id}
        raise error
    status = 202 if message.state < State.SENT else 201
    location = f"/sessions/{message.company}/messages/{message.message_id}"
    return Json(message.as_wire(), status, {"Location": location})


def existing(messenger: Messenger, company: str, message_id: str) -> Outgoing:
    """A message that was to be sent. Raises `NotFound`."""
    message = messenger.message(company, message_id)
    if message is None:
        raise NotFound(
            f"company {company!r} has no message with this id",
            next_step="Messages are kept for STANDFAST_MESSAGES_KEPT_DAYS; received ones are in the list.",
        )
    return message


def check_known(routes: Routes, company: str) -> None:
    """Raises `CompanyUnknown` where there is no session: an empty list would look like an answer."""
    if routes.parts.pool.session(Company(company)) is None:
        raise CompanyUnknown(f"there is no session of company {company!r}")
