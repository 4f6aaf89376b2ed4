"""What a creds document says, checked as far as Standfast depends on it.

Invariant: a document that was parsed names an identity and a registration; one that cannot be read raises
`AuthStateCorrupt` and is never taken for an absent one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from standfast.authstate.buffer_json import as_bytes, parse
from standfast.errors import AuthStateCorrupt

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Creds:
    """`is_registered`: WhatsApp has accepted the device (the signed account is there). `me_jid` alone does not say
    so: it is set when a pairing code is asked for."""

    identity_public: bytes = field(repr=False)
    registration_id: int
    next_pre_key_id: int
    me_jid: str | None = field(repr=False)
    me_lid: str | None = field(repr=False)
    is_registered: bool


def parse_creds(raw: bytes) -> Creds:
    """The document `raw`. `AuthStateCorrupt` names the field that is missing or damaged, never its contents."""
    document = _document(raw)
    me = document.get("me")
    me = me if isinstance(me, dict) else {}
    return Creds(
        identity_public=_identity(document),
        registration_id=_number(document, "registrationId"),
        next_pre_key_id=_number(document, "nextPreKeyId"),
        me_jid=_text(me, "id"),
        me_lid=_text(me, "lid"),
        is_registered=_text(me, "id") is not None and isinstance(document.get("account"), dict),
    )


def identity_key(raw: bytes) -> bytes:
    """The public identity key: what makes creds those of one pairing and no other."""
    return _identity(_document(raw))


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = parse(raw)
    except AuthStateCorrupt:
        raise AuthStateCorrupt("the creds are not valid JSON: cut off or damaged") from None
    if not isinstance(document, dict):
        raise AuthStateCorrupt(f"the creds are a JSON {type(document).__name__}, not an object")
    return document


def _identity(document: dict[str, Any]) -> bytes:
    pair = document.get("signedIdentityKey")
    try:
        public = as_bytes(pair.get("public") if isinstance(pair, dict) else None)
    except AuthStateCorrupt:
        public = b""
    if len(public) != _KEY_BYTES:
        raise AuthStateCorrupt("the creds have no public identity key (signedIdentityKey.public)")
    return public


def _number(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or value < 0:
        raise AuthStateCorrupt(f"the creds have no valid {name}")
    return value


def _text(holder: dict[str, Any], name: str) -> str | None:
    value = holder.get(name)
    return value if isinstance(value, str) and value else None
