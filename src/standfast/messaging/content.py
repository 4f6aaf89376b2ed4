"""Public content: what may be sent, as callers write it, and what Baileys is asked to send.

Invariant: content that passed `checked` can be sent without another look at what the caller gave.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from standfast.errors import UsageError

MessageId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{4,128}$")]


class Text(msgspec.Struct, tag="text", forbid_unknown_fields=True, omit_defaults=True):
    """A text; `reply_to` is the id of a message of the same chat."""

    text: Annotated[str, Meta(min_length=1, max_length=65_536)]
    reply_to: MessageId | None = None


class Reaction(msgspec.Struct, tag="reaction", forbid_unknown_fields=True):
    """A reaction to a message of the same chat; an empty `emoji` takes it back."""

    to: MessageId
    emoji: Annotated[str, Meta(max_length=16)]


Content = Text | Reaction


def checked(content: dict[str, Any]) -> dict[str, Any]:
    """`content` in its shortest form. Raises `UsageError` saying what is wrong with it."""
    try:
        wanted: Any = Content
        builtins: dict[str, Any] = msgspec.to_builtins(msgspec.convert(content, wanted))
    except msgspec.ValidationError as error:
        raise UsageError(f"the content cannot be sent: {error}", next_step="See docs/messages.md.") from None
    return builtins
