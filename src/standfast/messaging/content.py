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
MAX_CAPTION_CHARS = 4_096
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


class _Media(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A file: by its absolute path at the service, by URL, or by the id of an upload."""

    file: Annotated[str, Meta(min_length=2, max_length=4_096, pattern="^/")] | None = None
    url: Annotated[str, Meta(min_length=8, max_length=2_048)] | None = None
    upload: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")] | None = None
    reply_to: MessageId | None = None


class _Captioned(_Media, omit_defaults=True, kw_only=True):
    caption: Annotated[str, Meta(max_length=MAX_CAPTION_CHARS)] | None = None
    mentions: Mentions = ()


class Image(_Captioned, tag="image"):
    """A picture: JPEG, PNG or WebP."""


class Video(_Captioned, tag="video"):
    """A film: MP4, 3GPP or QuickTime."""


class Document(_Captioned, tag="document", omit_defaults=True, kw_only=True):
    """Any file, shown by its name (default: the name that it had)."""

    file_name: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f]+$")] | None = None


class Audio(_Media, tag="audio"):
    """Music or speech: MP3, M4A, AAC, AMR or Ogg."""


class Voice(_Media, tag="voice"):
    """A voice message: Ogg with Opus."""


class Sticker(_Media, tag="sticker"):
    """WebP."""


Content = Text | Reaction | Edit | Revoke | Image | Video | Document | Audio | Voice | Sticker
MEDIA = frozenset({"image", "video", "document", "audio", "voice", "sticker"})
SOURCES = ("file", "url", "upload")
# What is known of a file once it was fetched stands in the content under this name; its place and key are secret.
FETCHED = "media"
_SECRET = frozenset({"spool", "key"})


def checked(content: dict[str, Any]) -> dict[str, Any]:
    """`content` in its shortest form. Raises `UsageError` saying what is wrong with it."""
    try:
        wanted: Any = Content
        builtins: dict[str, Any] = msgspec.to_builtins(msgspec.convert(content, wanted))
    except msgspec.ValidationError as error:
        raise UsageError(f"the content cannot be sent: {error}", next_step="See docs/messages.md.") from None
    if builtins["type"] in MEDIA and sum(source in builtins for source in SOURCES) != 1:
        raise UsageError(
            "the content cannot be sent: it needs exactly one of file, url and upload",
            next_step="See docs/messages.md.",
        )
    return builtins


def public(content: dict[str, Any]) -> dict[str, Any]:
    """`content` as it may be shown."""
    fetched = content.get(FETCHED)
    if fetched is None:
        return content
    return {**content, FETCHED: {name: value for name, value in fetched.items() if name not in _SECRET}}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two contents were asked for in the same words."""
    return {**one, FETCHED: None} == {**other, FETCHED: None}


def with_addresses(content: dict[str, Any], region: str | None) -> dict[str, Any]:
    """`content` with mentioned people as addresses. Raises `UsageError` where one cannot be."""
    mentions = content.get("mentions")
    return {**content, "mentions": [address(one, region) for one in mentions]} if mentions else content
