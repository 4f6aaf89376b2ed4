"""What PostgreSQL's jsonb cannot hold is refused before it is acknowledged.

Invariant: a change that passes can be stored: a value that PostgreSQL refused later would hold up every later
batch of its company.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import orjson

from standfast.authstate.change import Change
from standfast.errors import UsageError

# Escapes that may be of a NUL character or of half a surrogate pair; only a value with one is looked at closely.
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89abAB][0-9a-fA-F]{2}|[dD][c-fC-F][0-9a-fA-F]{2})")


def refuse_unstorable(change: Change) -> None:
    """Raises `UsageError` for a NUL character in a name or value, half a surrogate pair, or text that is no JSON."""
    for key_type, entries in change.keys.items():
        if "\0" in key_type or any("\0" in key_id for key_id in entries):
            raise UsageError("a key's type or id holds a NUL character, which PostgreSQL cannot store")
    for value in _values(change):
        if _SUSPICIOUS.search(value):
            _look_closely(value)


def _values(change: Change) -> Iterator[bytes]:
    if change.creds is not None:
        yield change.creds
    for entries in change.keys.values():
        yield from (value for value in entries.values() if value is not None)


def _look_closely(value: bytes) -> None:
    try:
        text = orjson.dumps(orjson.loads(value))
    except orjson.JSONDecodeError:
        raise UsageError(
            "a value is not JSON that PostgreSQL can store (half a surrogate pair, or not JSON at all)"
        ) from None
    if rb"\u0000" in text.replace(rb"\\", b""):
        raise UsageError("a value holds a NUL character, which PostgreSQL cannot store")
