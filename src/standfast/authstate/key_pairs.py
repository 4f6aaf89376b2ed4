"""Whether key pairs are pairs: the public half is that of the private one, and what is signed was signed by it.

Invariant: no key, and no part of one, gets into a message.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from standfast.authstate.buffer_json import as_bytes, parse
from standfast.errors import AuthStateCorrupt

_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_TYPE = b"\x05"  # what libsignal puts before a public key of this curve
_FIELD = 2**255 - 19
_SIGN = 0x80


def check_creds(raw: bytes) -> None:
    """`AuthStateCorrupt` names the pair of the creds document that is missing, damaged or no pair."""
    document = parse(raw)
    if not isinstance(document, dict):
        raise AuthStateCorrupt("the creds are no JSON object")
    _pair(document, "noiseKey")
    identity = _pair(document, "signedIdentityKey")
    if document.get("pairingEphemeralKeyPair") is not None:
        _pair(document, "pairingEphemeralKeyPair")
    signed = document.get("signedPreKey")
    if not isinstance(signed, dict):
        raise AuthStateCorrupt("the creds have no signedPreKey")
    public = _pair(signed, "keyPair", "signedPreKey.keyPair")
    if not is_signed(identity, _TYPE + public, _bytes(signed.get("signature"), "signedPreKey.signature")):
        raise AuthStateCorrupt("signedPreKey is not signed by signedIdentityKey")


def check_pre_key(raw: bytes) -> None:
    """`AuthStateCorrupt` where the value of a pre-key is no pair."""
    _pair({"pre-key": parse(raw)}, "pre-key")


def is_signed(identity: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is XEdDSA's of `message` under the Curve25519 key `identity`."""
    if len(signature) != _SIGNATURE_BYTES:
        return False
    # The same point on the Edwards curve; the signature carries the sign that the other form does not have.
    u = int.from_bytes(identity, "little") % _FIELD
    y = (u - 1) * pow(u + 1, -1, _FIELD) % _FIELD if u + 1 != _FIELD else 0
    point = bytearray(y.to_bytes(_KEY_BYTES, "little"))
    point[-1] |= signature[-1] & _SIGN
    plain = signature[:-1] + bytes([signature[-1] & ~_SIGN & 0xFF])
    try:
        Ed25519PublicKey.from_public_bytes(bytes(point)).verify(plain, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _pair(holder: dict[str, Any], name: str, path: str = "") -> bytes:
    """Its public half."""
    path = path or name
    pair = holder.get(name)
    if not isinstance(pair, dict):
        raise AuthStateCorrupt(f"there is no {path}")
    public = _bytes(pair.get("public"), f"{path}.public")
    private = _bytes(pair.get("private"), f"{path}.private")
    if len(private) != _KEY_BYTES:
        raise AuthStateCorrupt(f"{path}.private has not {_KEY_BYTES} bytes")
    if X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() != public:
        raise AuthStateCorrupt(f"{path} is no pair: its public key is not that of its private one")
    return public


def _bytes(value: Any, path: str) -> bytes:
    try:
        return as_bytes(value)
    except AuthStateCorrupt:
        raise AuthStateCorrupt(f"{path} is missing or damaged") from None
