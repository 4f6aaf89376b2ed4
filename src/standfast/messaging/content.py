"""Public content: what may be sent, as callers write it.

Invariant: content that passed `checked` can be sent without another look at what the caller gave.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from standfast.errors import UsageError
from standfast.sessions.phone import address

MAX_TEXT_CHARS = 65_536
MessageId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{4,128}$")]
LongText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
Mentions = Annotated[tuple[Annotated[str, Meta(max_length=120)], ...], Meta(max_length=256)]


class Text(msgspec.Struct, tag="text", forbid_unknown_fields=True, omit_defaults=True):
    """A text; `reply_to` is the id of a message of the same chat, `mentions` are phone numbers or addresses."""

    text: LongText
    reply_to: MessageId | None = None
    mentions: Mentions = ()


class Reaction(msgspec.Struct, tag="reaction", forbid_unknown_fields=True):
    """A reaction to a message of the same chat; an empty `emoji` takes it back."""

    to: MessageId
    emoji: Annotated[str, Meta(max_length=16)]


class Edit(msgspec.Struct, tag="edit", forbid_unknown_fields=True):
    """A new text for a message that the company sent to the same chat."""

    to: MessageId
    text: LongText


class Revoke(msgspec.Struct, tag="revoke", forbid_unknown_fields=True):
    """Deletes a message for everyone: one's own, or in a group, as its admin, another's."""

    to: MessageId


Content = Text | Reaction | Edit | Revoke


def checked(content: dict[str, Any]) -> dict[str, Any]:
    """`content` in its shortest form. Raises `UsageError` saying what is wrong with it."""
    try:
        wanted: Any = Content
        builtins: dict[str, Any] = msgspec.to_builtins(msgspec.convert(content, wanted))
    except msgspec.ValidationError as error:
        raise UsageError(f"the content cannot be sent: {error}", next_step="See docs/messages.md.") from None
    return builtins


def with_addresses(content: dict[str, Any], region: str | None) -> dict[str, Any]:
    """`content` with mentioned people as addresses. Raises `UsageError` where one cannot be."""
    mentions = content.get("mentions")
    return {**content, "mentions": [address(one, region) for one in mentions]} if mentions else content
