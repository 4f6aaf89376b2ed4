"""Key pairs of creds, as Baileys makes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from standfast.authstate.buffer_json import as_bytes, buffer
from standfast.authstate.key_pairs import check_creds, check_pre_key, is_signed
from standfast.errors import AuthStateCorrupt

# Made by Baileys' initAuthCreds for this test; the two signatures have different sign bits.
CREDS: tuple[dict[str, Any], ...] = (
    {
        "noiseKey": {
            "private": "sMKqo3SpeKcbdmlqNUSmiOG0DzrZzyAI4elbSOsl1GM=",
            "public": "V2It6AUUfXu9LGDExfELOgkAQbnO2pn17eGI5T+SxnI=",
        },
        "signedIdentityKey": {
            "private": "2O2YUpYdkvh0hRh1nwjTRZhzn953v5BJqoP7FW54gVg=",
            "public": "Q6iam8vZxZs26X6Q6bJp4KBlFh1ePOSEaHAEOq7BwlY=",
        },
        "keyPair": {
            "private": "ADHrIDhu5ysPV90g4Z02kZdt0VxCDtaO3xfOUWptIks=",
            "public": "oTh8mYnc1lk9+LWJIWy2Ny5VkMTCAgl++j0+A2+HjW8=",
        },
        "signature": "Wcyz1JICROyu775X87Fzf3xxyVhEsdR9xmc5pqFXBVZeT+uv+GCFsLIsLl++2BftrCE/51031NVGKa2C/xiQDg==",
    },
    {
        "noiseKey": {
            "private": "8JuCuKNVAJ6X5VmLJUPBTAUuoI1D5GoYSekExlsYeGc=",
            "public": "QcHRya6Y88XqEyBhHY7PMD69Ww5UKGLOdLxGBB+uhmk=",
        },
        "signedIdentityKey": {
            "private": "CJDQv6pX5j6PdXLlqL/HXOa89EV2iN9AcbLqq1xgkVY=",
            "public": "iZV5PmD0X4/8punlPY0DKc1r9jxFuwZgYnfe+7sIlBI=",
        },
        "keyPair": {
            "private": "AEOYGQWQsH+QoCEcXFcx/5bRBYDjf0CfdKGpaQu7iUk=",
            "public": "sygYRWngEni6anbi3RKZD4N8e/4+G86qolJfNl9HzzU=",
        },
        "signature": "8HwWOtVBpmkeUllb4shmAV0A6B6DJbF2saj8ePOX4iBrtOYfAToahz5ZLhCoHHPJKrRgTjwX6dDovbv28/DEhw==",
    },
)


def document(number: int = 0) -> dict[str, Any]:
    """A copy, in canonical form."""
    flat = CREDS[number]
    pairs = {
        name: {half: {"type": "Buffer", "data": text} for half, text in flat[name].items()}
        for name in ("noiseKey", "signedIdentityKey", "keyPair")
    }
    signed = {
        "keyPair": pairs.pop("keyPair"),
        "keyId": 1,
        "signature": {"type": "Buffer", "data": flat["signature"]},
    }
    return {**pairs, "signedPreKey": signed}


@pytest.mark.parametrize("number", range(len(CREDS)))
def test_what_baileys_makes_is_in_order(number: int) -> None:
    """Pairs are pairs, and the signed pre-key is signed, whichever half of the curve the signer's point lies on."""
    check_creds(json.dumps(document(number)).encode())
    check_pre_key(json.dumps(document(number)["signedPreKey"]["keyPair"]).encode())


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("noiseKey", "public"), buffer(b"\x01" * 32), "noiseKey is no pair"),
        (("noiseKey", "private"), buffer(b"\x01" * 31), "noiseKey.private has not 32 bytes"),
        (("signedIdentityKey", "private"), "", "signedIdentityKey.private has not"),
        (("signedIdentityKey", "public"), None, "signedIdentityKey.public is missing"),
        (("signedPreKey", "keyPair"), None, "no signedPreKey.keyPair"),
        (("signedPreKey", "signature"), buffer(b"\x01" * 64), "not signed"),
        (("signedPreKey", "signature"), buffer(b"\x01" * 63), "not signed"),
    ],
)
def test_what_does_not_fit_is_named_and_not_shown(path: tuple[str, str], value: Any, named: str) -> None:
    """The error says which part, and holds no key."""
    changed = document()
    changed[path[0]][path[1]] = value
    with pytest.raises(AuthStateCorrupt, match=named) as caught:
        check_creds(json.dumps(changed).encode())
    assert CREDS[0]["noiseKey"]["private"][:8] not in caught.value.message


def test_a_signature_is_of_one_message_and_one_signer() -> None:
    """Another message, another signer or one changed bit is no signature."""
    one, other = document(0), document(1)
    identity = as_bytes(one["signedIdentityKey"]["public"])
    message = b"\x05" + as_bytes(one["signedPreKey"]["keyPair"]["public"])
    signature = as_bytes(one["signedPreKey"]["signature"])
    assert is_signed(identity, message, signature)
    assert not is_signed(identity, message + b"x", signature)
    assert not is_signed(as_bytes(other["signedIdentityKey"]["public"]), message, signature)
    for place in (0, 31, 40, 63):
        changed = bytearray(signature)
        changed[place] ^= 1
        assert not is_signed(identity, message, bytes(changed))
