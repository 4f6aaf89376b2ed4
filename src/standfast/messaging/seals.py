"""`Seals`: how the messages' file keeps secrets: contents sealed, addresses as keyed digests.

Invariant: without the vault's key nobody can read a text from the file, or tell whose address stands in it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, TypeVar

import msgspec

from standfast.vault.storage.cipher import Cipher

T = TypeVar("T")
TAG_BYTES = 16


class Seals:
    """Made of the vault's key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(hmac.digest(key, b"standfast messages", "sha256"))
        self._tag_key = hmac.digest(key, b"standfast addresses", "sha256")

    def seal(self, value: Any, place: str) -> bytes:
        """`value` (anything that msgspec knows) as it may lie on disk."""
        return self._cipher.seal(msgspec.json.encode(value), place)

    def open(self, sealed: bytes, place: str, kind: type[T]) -> T:
        """What was sealed for `place`. Raises `Unreadable`."""
        return msgspec.json.decode(self._cipher.open(sealed, place), type=kind)

    def tag(self, *parts: str) -> bytes:
        """The same 16 bytes for the same parts, which nobody can find out from them."""
        message = "\0".join(parts).encode()
        return hashlib.blake2b(message, key=self._tag_key, digest_size=TAG_BYTES).digest()
