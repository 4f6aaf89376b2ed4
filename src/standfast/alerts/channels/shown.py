"""What of a note may be shown outside: text without secrets, phone numbers and characters that mislead.

Invariant: everything that a channel sends has passed here; a company's id is shown as it is, because it is the name
that its operator gave it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from standfast.alerts.channel import Note
from standfast.redaction import redact, redact_fields, redact_text

_ERROR_CODE = re.compile(r"[a-z][a-z_]*|[0-9]{3}|[0-9A-Z]{5}")
_JOINER, _NON_JOINER = "\u200d", "\u200c"
_JOINED = (_JOINER, "\ufe0e", "\ufe0f")
_MAX_CHARS = 20_000  # redaction looks at so much of one text; nobody is shown more


def clean(text: str) -> str:
    """`text` as it may be shown; line ends stay, other control characters become spaces."""
    whole = text[:_MAX_CHARS].encode("utf-8", "replace").decode()
    plain = "".join(_printable(char) for char in whole)
    return redact_text(re.sub(r"\n{3,}", "\n\n", plain)).strip()


def line(text: str) -> str:
    """The same on one line."""
    return " ".join(clean(text).split())


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, cut between words where that costs little, and never within one character that is
    written with several."""
    if len(text) <= limit:
        return text
    end = max(0, limit - 1)
    space = text.rfind(" ", 0, end)
    if space > end * 3 // 4:
        end = space
    while end > 0 and _continues(text, end):
        end -= 1
    return f"{text[:end].rstrip()}…"


def facts_of(note: Note) -> dict[str, Any]:
    """The note's facts, redacted at every depth. `code` is an error's code here, where elsewhere it may be a pairing
    code: it is shown where it looks like one of an error."""
    facts = _cleaned(redact_fields(note.facts))
    code = note.facts.get("code")
    if code is not None and _ERROR_CODE.fullmatch(str(code)):
        facts["code"] = code
    return dict(facts)


def tags_of(note: Note) -> dict[str, str]:
    """The alert's own tags, redacted; the company is shown as it is."""
    tags = {name: line(str(value)) for name, value in note.tags.items()}
    if "company_id" in note.tags:
        tags["company_id"] = note.tags["company_id"]
    return tags


def _printable(char: str) -> str:
    """Characters without a picture go: those that turn the direction make a command read otherwise than it is, and
    those without width split a number that redaction would have known. Scripts and emoji need the joiners."""
    if char in ("\n", _JOINER, _NON_JOINER):
        return char
    return {"Cc": " ", "Cf": ""}.get(unicodedata.category(char), char)


def _continues(text: str, at: int) -> bool:
    return unicodedata.combining(text[at]) != 0 or text[at] in _JOINED or text[at - 1] == _JOINER


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {name: _cleaned(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return redact(value)
