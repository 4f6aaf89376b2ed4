"""Bytes in JSON, as Baileys and older stores wrote them, brought into the one form that Baileys writes today.

Invariant: the canonical form is `{"type":"Buffer","data":"<base64>"}`; everything that is no byte string stays as
it is. Off the hot path only: a store passes values on without looking inside.

Older forms that are read: `data` as a list of numbers, `value` in place of `data`, base64 without padding or in the
URL alphabet, and a plain `Uint8Array` as `JSON.stringify` writes it, `{"0":5,"1":…}`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from standfast.errors import AuthStateCorrupt

_OLDER_FORM = re.compile(rb'"0"\s*:|"data"\s*:\s*[\[{]|"value"\s*:')
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")


def canonical(value: Any) -> Any:
    """`value` (parsed JSON) with every byte string in canonical form. `AuthStateCorrupt` where one is damaged."""
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = _bytes_of(value)
    if found is not None:
        return buffer(found)
    return {name: canonical(item) for name, item in value.items()}


def canonical_json(raw: bytes) -> bytes:
    """The JSON text `raw` in canonical form: the very same bytes where it already is."""
    value = parse(raw)
    changed = canonical(value)
    return raw if changed == value else json.dumps(changed, separators=(",", ":")).encode()


def passed_on(raw: bytes) -> bytes:
    """The JSON text `raw` as every Baileys reads it: as it stands, but for forms that only older stores wrote. For many
    values at once: what stands is not looked into."""
    return canonical_json(raw) if _OLDER_FORM.search(raw) else raw


def parse(raw: bytes) -> Any:
    """`raw` parsed; `AuthStateCorrupt` where it is not JSON. Integers of any size stay exact."""
    try:
        return json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # The parser's own message would quote the value.
        raise AuthStateCorrupt("not valid JSON: cut off or damaged") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def buffer(data: bytes) -> dict[str, str]:
    """The canonical form of `data`."""
    return {"type": "Buffer", "data": base64.b64encode(data).decode()}


def as_bytes(value: Any) -> bytes:
    """The bytes that `value` stands for, in any of the forms above or as a bare base64 string."""
    if isinstance(value, str):
        return _from_base64(value)
    found = _bytes_of(value) if isinstance(value, dict) else None
    if found is None:
        raise AuthStateCorrupt("a byte string is missing or of an unknown form")
    return found


def stored_forms(data: bytes) -> list[Any]:
    """Every form, canonical first, in which stores are known to have written `data`."""
    text = base64.b64encode(data).decode()
    numbers = list(data)
    return [
        {"type": "Buffer", "data": text},
        {"type": "Buffer", "data": numbers},
        {"type": "Buffer", "value": text},
        {"type": "Buffer", "value": numbers},
        {str(index): number for index, number in enumerate(numbers)},
        text,
    ]


def _bytes_of(value: dict[str, Any]) -> bytes | None:
    if value.get("type") == "Buffer" and value.keys() <= {"type", "data", "value"}:
        return _from_data(value.get("data", value.get("value")))
    return _from_indexed(value)


def _from_data(data: Any) -> bytes:
    if isinstance(data, str):
        return _from_base64(data)
    if isinstance(data, list) and all(map(_is_byte, data)):
        return bytes(data)
    found = _from_indexed(data) if isinstance(data, dict) else None
    if found is None and data != {}:
        raise AuthStateCorrupt("a Buffer holds neither base64 nor a list of bytes")
    return found or b""


def _from_indexed(value: dict[str, Any]) -> bytes | None:
    """Only gapless indexes from 0 count: other objects with numbers for names are data."""
    if not value or not all(map(_is_byte, value.values())):
        return None
    if value.keys() != {str(index) for index in range(len(value))}:
        return None
    return bytes(value[str(index)] for index in range(len(value)))


def _is_byte(item: Any) -> bool:
    return type(item) is int and 0 <= item <= 255


def _from_base64(text: str) -> bytes:
    plain = text.translate(str.maketrans("-_", "+/", "\r\n")).rstrip("=")
    if not _BASE64.fullmatch(plain):
        raise AuthStateCorrupt("a Buffer is not base64")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4))
    except binascii.Error:
        raise AuthStateCorrupt("a Buffer's base64 is cut off") from None
