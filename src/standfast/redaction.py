"""What may be shown of text that can hold secrets: connection strings, phone numbers, JIDs, log fields.

Invariant: a function here may hide too much, never too little; it does not raise on malformed input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "********"

_URL_PASSWORD = re.compile(r"(?P<head>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#:@]*):[^\r\n]*@")
_URL_KEY = re.compile(r"(?P<head>\bhttps?://)[^\s/?#:@]+@")
_KEYWORD = re.compile(
    r"(?P<name>\b\w*(?:password|passwd|passfile|token|secret|pwd)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&'\"]+)",
    re.IGNORECASE,
)
_TELEGRAM_TOKEN = re.compile(r"\d{6,}:[A-Za-z0-9_-]{30,}")
_JID = re.compile(r"\d{5,}(?P<rest>(?:_\d+)?(?::\d+)?@(?:s\.whatsapp\.net|c\.us|lid|hosted(?:\.lid)?))")
_PHONE = re.compile(r"(?<![\w.-])(?:\+\d[\d ()-]{7,18}\d|\d{10,15})(?![\w.-]*\w)")
_SECRET_WORDS = frozenset(
    {
        "password",
        "passwd",
        "passphrase",
        "token",
        "secret",
        "creds",
        "qr",
        "phone",
        "dsn",
        "conninfo",
        "authorization",
    }
)
_SECRET_NAMES = frozenset(
    {"key", "keys", "code", "pairing_code", "private_key", "database_url", "connection_string"}
)


def mask_dsn(dsn: str) -> str:
    """A connection string or URL with every password and token masked."""
    masked = _URL_PASSWORD.sub(rf"\g<head>:{MASK}@", dsn)
    masked = _URL_KEY.sub(rf"\g<head>{MASK}@", masked)
    return _KEYWORD.sub(rf"\g<name>{MASK}", masked)


def mask_phone(phone: str) -> str:
    """A phone number of which only the last two digits are shown."""
    digits = re.sub(r"\D", "", phone)
    return f"…{digits[-2:]}" if len(digits) > 4 else "…"


def redact_text(text: str) -> str:
    """`text` without passwords, phone numbers and the user part of JIDs."""
    masked = _TELEGRAM_TOKEN.sub(MASK, mask_dsn(text))
    return _PHONE.sub("…", _JID.sub(r"…\g<rest>", masked))


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret by its meaning."""
    lowered = name.lower()
    return lowered in _SECRET_NAMES or not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z]+", lowered))


def redact_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields, those of secret names masked and all other text redacted, at every depth."""
    return {name: MASK if _hides(name, value) else redact(value) for name, value in fields.items()}


def redact(value: Any) -> Any:
    """`value` with all text in it redacted; bytes are never shown, only counted."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return redact_fields({str(name): item for name, item in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def _hides(name: str, value: Any) -> bool:
    """A count under a name such as `keys` is shown; a number that is a code or a phone is not."""
    if not is_secret_name(name) or value is None or isinstance(value, bool):
        return False
    return not (isinstance(value, int | float) and name.lower() in {"key", "keys", "creds"})
