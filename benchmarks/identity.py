"""Auth state of made-up companies: of the size of a real one, with the fields that Standfast reads."""

from __future__ import annotations

import base64
import json


def _buffer(content: bytes) -> dict[str, str]:
    return {"type": "Buffer", "data": base64.b64encode(content).decode()}


PRE_KEY = json.dumps({"public": _buffer(b"\x0c" * 32), "private": _buffer(b"\x0d" * 32)}).encode()


def made_up_creds(number: int) -> bytes:
    """A creds document whose identity follows from `number`."""
    pair = {"private": _buffer(b"\x08" * 32), "public": _buffer(number.to_bytes(32, "big"))}
    document = {
        "noiseKey": pair,
        "pairingEphemeralKeyPair": pair,
        "signedIdentityKey": pair,
        "signedPreKey": {"keyPair": pair, "signature": _buffer(b"\x09" * 64), "keyId": 1},
        "registrationId": 1 + number % 16000,
        "advSecretKey": base64.b64encode(b"\x0a" * 32).decode(),
        "nextPreKeyId": 813,
        "firstUnuploadedPreKeyId": 813,
        "registered": True,
        "account": {"details": _buffer(b"\x0b" * 512)},
    }
    return json.dumps(document).encode()
