"""What a webhook's receiver knows us by: its secrets, and the signature over a body.

Invariant: a signature covers the very bytes that are sent and the time at which they are; secrets are never shown
again.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

import msgspec

from standfast.errors import UsageError

SECRET_CHARACTERS = (16, 200)


class Secret(msgspec.Struct, frozen=True, omit_defaults=True):
    """Signs until `until` (seconds since 1970), or for good."""

    value: str
    until: float | None = None


def new_secret(given: str | None = None) -> Secret:
    """The caller's, or one of 256 random bits. Raises `UsageError` where the caller's is too short or unprintable."""
    if given is None:
        return Secret(f"whsec_{secrets.token_urlsafe(32)}")
    least, most = SECRET_CHARACTERS
    if not (least <= len(given) <= most and given.isascii() and given.isprintable()):
        raise UsageError(
            f"a webhook's secret has {least} to {most} printable ASCII characters",
            next_step="Leave it out to have one made.",
        )
    return Secret(given)


def signature(signing: Iterable[Secret], timestamp: int, body: bytes) -> str:
    """The header `Standfast-Signature`: one `v1=…` for each secret that is valid at `timestamp`, the newest first."""
    signed = f"{timestamp}.".encode() + body
    return ",".join(
        f"v1={hmac.new(secret.value.encode(), signed, hashlib.sha256).hexdigest()}"
        for secret in signing
        if secret.until is None or timestamp < secret.until
    )
