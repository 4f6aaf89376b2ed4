"""What requests carry: one struct for each body, read from the wire within limits.

Invariant: a body that could not be read or is wrong changes nothing, and its problem never repeats what was in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta

from standfast.api.problems import HttpProblem
from standfast.errors import UsageError
from standfast.messaging.content import Content, MessageId

T = TypeVar("T")
BODY_BYTES = 2**20
BODY_TIMEOUT_S = 15.0
_JSON_TYPES = ("application/json", "")
Address = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=120,
        description="A phone number (+79990000001), or an address: <id>@s.whatsapp.net, <id>@lid or <id>@g.us.",
    ),
]


class SendBody(msgspec.Struct, forbid_unknown_fields=True):
    """A message to send: `text`, or another kind of `content` (docs/messages.md)."""

    to: Address
    text: Annotated[str, Meta(min_length=1, max_length=65_536)] | None = None
    content: Content | None = None
    lifetime_s: (
        Annotated[float, Meta(gt=0, le=604_800, description="Not to be sent any more after that time.")]
        | None
    ) = None

    def sendable(self) -> dict[str, Any]:
        """The content. `UsageError` where both or none were given, or a file of this machine's is named."""
        if (self.text is None) == (self.content is None):
            raise UsageError("give either 'text' or 'content'", next_step="See docs/http.md.")
        if self.content is None:
            return {"type": "text", "text": self.text}
        content: dict[str, Any] = msgspec.to_builtins(self.content)
        if content.get("file") is not None:
            # Its caller stands elsewhere, and must not read files of the service's account.
            raise UsageError(
                "a file of the service's machine cannot be named over HTTP", next_step="Give a 'url' instead."
            )
        return content


class PairBody(msgspec.Struct, forbid_unknown_fields=True):
    """How to pair: by QR, or by a code that is entered at the phone of this number. `confirm`: it may be another number
    than the company had. `fallback`: where no code can be had, go on by QR (default: as the settings say)."""

    by: Literal["qr", "code"] = "qr"
    phone: Annotated[str, Meta(max_length=40)] | None = None
    confirm: bool = False
    fallback: bool | None = None


class CreateBody(PairBody, forbid_unknown_fields=True, kw_only=True):
    """A company to pair."""

    company: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,50}$")]


class ReactionBody(msgspec.Struct, forbid_unknown_fields=True):
    """A reaction to a message of a chat; an empty `emoji` takes it back."""

    chat: Address
    message_id: MessageId
    emoji: Annotated[str, Meta(max_length=16)]


class ReadBody(msgspec.Struct, forbid_unknown_fields=True):
    """Messages of a chat that were read; without ids all that came since the last time."""

    chat: Address
    message_ids: Annotated[tuple[MessageId, ...], Meta(min_length=1, max_length=500)] | None = None


class TypingBody(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the company is shown as typing, and for how long."""

    chat: Address
    on: bool = True
    ttl_s: Annotated[float, Meta(gt=0, le=25)] = 25.0


class Incoming(Protocol):
    """What is used of a framework's request."""

    @property
    def headers(self) -> Any: ...

    def stream(self) -> AsyncIterator[bytes]: ...


async def read_json(request: Incoming, body: type[T]) -> T:
    """The request's body as `body`. Raises `HttpProblem`, or `UsageError` naming the field that is wrong."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _JSON_TYPES and not media_type.endswith("+json"):
        raise HttpProblem("unsupported_media_type", "the body must be JSON (content-type: application/json)")
    return decode(await read_bytes(request), body)


async def read_bytes(request: Incoming, limit: int = BODY_BYTES) -> bytes:
    """The whole body. Raises `HttpProblem` above `limit`, or where it does not come in time."""
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise HttpProblem("timeout", f"the body did not come within {BODY_TIMEOUT_S:g} s") from None
    return bytes(content)


def too_large(limit: int) -> HttpProblem:
    return HttpProblem("too_large", f"the body has more than {limit:,} bytes", limit_bytes=limit)


def decode(content: bytes, body: type[T]) -> T:
    """`content` as `body`; raises as `read_json`."""
    try:
        return msgspec.json.decode(content, type=body)
    except msgspec.ValidationError as error:
        raise UsageError(f"the body is wrong: {error}", next_step="See docs/http.md, or /docs.") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise HttpProblem("malformed", "the body is not JSON in UTF-8") from None
