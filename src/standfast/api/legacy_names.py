"""What callers of small Baileys bots send to `/send` and `/reaction`, read as what is meant.

Invariant: each thing has the names listed here and no others; where two names contradict each other nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from standfast.api.bodies import decode
from standfast.api.problems import HttpProblem
from standfast.errors import UsageError

TO = ("to", "phone", "number", "jid", "chat", "chatId", "chat_id", "recipient", "receiver")
TEXT = ("message", "text", "msg", "body")
COMPANY = ("company", "company_id", "companyId", "session", "sessionId", "session_id")
MESSAGE_ID = ("messageId", "message_id", "msgId", "id")
EMOJI = ("emoji", "reaction")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class LegacySend:
    company: str | None
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class LegacyReaction:
    company: str | None
    chat: str
    message_id: str
    emoji: str


def fields_of(content: bytes, media_type: str) -> dict[str, Any]:
    """The body's fields, from JSON or from a form. Raises `HttpProblem`, `UsageError`."""
    if media_type != FORM:
        return decode(content, dict[str, Any])
    try:
        return dict(parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise HttpProblem("malformed", "the body is not a form in UTF-8") from None


def read_send(fields: Mapping[str, Any]) -> LegacySend:
    """Raises `UsageError` naming what is missing."""
    message = dict(fields)
    for name in TEXT:
        inner = message.get(name)
        if isinstance(inner, Mapping):  # Baileys' own form: {"message": {"text": "hi"}}
            message[name] = inner.get("text")
    return LegacySend(_optional(fields, COMPANY), _address(_needed(fields, TO)), _needed(message, TEXT))


def read_reaction(fields: Mapping[str, Any]) -> LegacyReaction:
    """Raises `UsageError` naming what is missing."""
    found = dict(fields)
    key = fields.get("key")
    if isinstance(key, Mapping):  # Baileys' own form of a message's key
        found = {"chat": key.get("remoteJid"), "messageId": key.get("id"), **found}
    emoji = _one_of(found, EMOJI)
    if emoji is None:
        raise _missing(EMOJI)
    return LegacyReaction(
        _optional(fields, COMPANY), _address(_needed(found, TO)), _needed(found, MESSAGE_ID), emoji
    )


def _optional(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return _one_of(fields, names) or None


def _needed(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    value = _one_of(fields, names)
    if not value:
        raise _missing(names)
    return value


def _one_of(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    values = {_text(name, fields[name]) for name in names if fields.get(name) is not None}
    if len(values) > 1:
        raise UsageError(f"two of {', '.join(names)} say different things", next_step="Give one of them.")
    return values.pop() if values else None


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # phone numbers come as numbers too
    raise UsageError(f"'{name}' is not a text", next_step="See docs/http.md.")


def _missing(names: tuple[str, ...]) -> UsageError:
    return UsageError(
        f"'{names[0]}' is missing",
        next_step=f"It may also be called {', '.join(names[1:])}. See docs/http.md.",
    )


def _address(text: str) -> str:
    """`…@c.us` is what older libraries call a phone number's address."""
    return text.removesuffix("@c.us") + "@s.whatsapp.net" if text.endswith("@c.us") else text
