"""What of a past state may be put back."""

from __future__ import annotations

import json

import pytest

from standfast.errors import AuthStateCorrupt
from standfast.jobs.restore.rules import as_it_was, kept, own_senders, rolled_back
from tests.support import made_up_creds

ME = {"id": "79990000001:5@s.whatsapp.net", "lid": "111222333:5@lid"}


def test_what_is_rolled_back_gives_out_no_pre_key_twice() -> None:
    """Both counters go to one id past all that may have been issued, further the older the backup is."""
    creds = made_up_creds(nextPreKeyId=813, firstUnuploadedPreKeyId=800)
    young, old = (json.loads(rolled_back(creds, age_s=days * 86_400.0).creds) for days in (0, 10))
    assert young["nextPreKeyId"] == young["firstUnuploadedPreKeyId"] == 10_813
    assert old["nextPreKeyId"] == 50_813
    known = json.loads(rolled_back(creds, age_s=0.0, issued=20_000).creds)
    assert known["nextPreKeyId"] == 30_000


def test_ids_of_pre_keys_stay_within_three_bytes() -> None:
    """Where none fits any more the restore says so, rather than write an id that the protocol cuts."""
    creds = made_up_creds(nextPreKeyId=16_000_000)
    moved = json.loads(rolled_back(creds, age_s=9e9).creds)["nextPreKeyId"]
    assert 16_000_000 < moved < 2**24
    with pytest.raises(AuthStateCorrupt, match="used up"):
        rolled_back(made_up_creds(nextPreKeyId=2**24 - 5), age_s=0.0)


def test_own_sender_keys_are_left_out_and_nobody_elses() -> None:
    """By number and by LID, of this device: those of contacts and of our own phone are kept."""
    ruled = rolled_back(made_up_creds(me=ME), age_s=0.0)
    group = "1203630@g.us"
    assert own_senders(made_up_creds(me=ME)) == ("111222333::5", "111222333_1::5", "79990000001::5")
    assert not kept(ruled, "sender-key", f"{group}::79990000001::5")
    assert not kept(ruled, "sender-key", f"{group}::111222333_1::5")
    assert kept(ruled, "sender-key", f"{group}::79990000001::0")
    assert kept(ruled, "sender-key", f"{group}::79990000002::5")


def test_sessions_go_and_what_cannot_be_had_again_stays() -> None:
    """After any restore nobody is taken to have our sender keys; sessions go only where they may have moved on."""
    rolled, whole = rolled_back(made_up_creds(me=ME), age_s=0.0), as_it_was(made_up_creds(me=ME))
    for key_type in (
        "pre-key",
        "app-state-sync-key",
        "lid-mapping",
        "device-list",
        "tctoken",
        "identity-key",
        "new",
    ):
        assert kept(rolled, key_type, "1")
    assert not kept(rolled, "session", "79990000002.0")
    assert kept(whole, "session", "79990000002.0")
    for ruled in (rolled, whole):
        assert not kept(ruled, "sender-key-memory", "1203630@g.us")
    assert whole.creds == made_up_creds(me=ME)
