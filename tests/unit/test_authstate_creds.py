"""What a creds document says."""

from __future__ import annotations

import json

import pytest

from standfast.authstate.buffer_json import buffer, stored_forms
from standfast.authstate.creds import identity_key, parse_creds
from standfast.errors import AuthStateCorrupt
from tests.support import made_up_creds

IDENTITY = bytes(range(32))
ME = {"id": "79990000001:7@s.whatsapp.net", "lid": "1:7@lid"}


def test_a_paired_device() -> None:
    creds = parse_creds(made_up_creds(IDENTITY, me=ME, account={"details": buffer(b"x")}))
    assert creds.identity_public == IDENTITY
    assert (creds.registration_id, creds.next_pre_key_id) == (1234, 31)
    assert (creds.me_jid, creds.me_lid) == (ME["id"], ME["lid"])
    assert creds.is_registered


def test_a_device_that_only_asked_for_a_pairing_code_is_not_registered() -> None:
    assert not parse_creds(made_up_creds(me=ME)).is_registered
    assert not parse_creds(made_up_creds()).is_registered
    assert parse_creds(made_up_creds()).me_jid is None


@pytest.mark.parametrize("form", stored_forms(IDENTITY))
def test_the_identity_is_read_in_every_form(form: object) -> None:
    raw = json.dumps(json.loads(made_up_creds()) | {"signedIdentityKey": {"public": form}}).encode()
    assert identity_key(raw) == IDENTITY
    assert parse_creds(raw).identity_public == IDENTITY


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "not valid JSON"),
        (made_up_creds()[:-20], "not valid JSON"),
        (b"null", "not an object"),
        (b'"{}"', "not an object"),
        (b"{}", "signedIdentityKey"),
        (made_up_creds(b"short"), "signedIdentityKey"),
        (made_up_creds(signedIdentityKey=None), "signedIdentityKey"),
        (made_up_creds(registrationId="1"), "registrationId"),
        (made_up_creds(nextPreKeyId=None), "nextPreKeyId"),
        (made_up_creds(nextPreKeyId=True), "nextPreKeyId"),
    ],
)
def test_a_damaged_document_names_what_is_wrong(raw: bytes, named: str) -> None:
    with pytest.raises(AuthStateCorrupt, match=named):
        parse_creds(raw)


def test_nothing_personal_is_in_its_repr() -> None:
    shown = repr(parse_creds(made_up_creds(IDENTITY, me=ME, account={})))
    assert "79990000001" not in shown
    assert "\\x01" not in shown
