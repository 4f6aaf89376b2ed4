"""Phone numbers and addresses as people write them."""

import pytest

from standfast.errors import UsageError
from standfast.sessions.phone import address, masked, phone_digits


@pytest.mark.parametrize(
    ("text", "region", "digits"),
    [
        ("+7 (999) 000-00-01", None, "79990000001"),
        ("79990000001", None, "79990000001"),
        ("8 999 000 00 01", "RU", "79990000001"),
        ("+7 999 000 00 01", "US", "79990000001"),
        ("202-555-0101", "US", "12025550101"),
    ],
)
def test_a_phone_number_is_read_in_its_usual_spellings(text: str, region: str | None, digits: str) -> None:
    """International forms need no region; national ones use the default region."""
    assert phone_digits(text, region) == digits


@pytest.mark.parametrize("text", ["", "+", "abc", "123", "8 999 000-00-01", "+7999", "7999000000100000000"])
def test_what_is_no_phone_number_is_refused_without_repeating_it(text: str) -> None:
    """A refusal says what to write instead and does not echo the number."""
    with pytest.raises(UsageError) as refused:
        phone_digits(text)
    assert "international" in refused.value.next_step
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("jid", ["79990000001@s.whatsapp.net", "1203-55@g.us", "799900000010@lid"])
def test_an_address_stays_as_it_is(jid: str) -> None:
    """JIDs of people, LIDs and groups pass."""
    assert address(jid) == jid


@pytest.mark.parametrize("text", ["x@example.com", "@s.whatsapp.net", "a b@g.us", "1@g.us@g.us"])
def test_a_foreign_address_is_refused(text: str) -> None:
    """Anything else with an @ is not a WhatsApp address."""
    with pytest.raises(UsageError):
        address(text)


def test_a_phone_number_becomes_an_address() -> None:
    """Digits become the phone-number JID."""
    assert address("+79990000001") == "79990000001@s.whatsapp.net"


def test_masking_keeps_four_digits() -> None:
    """What goes to a log or a screen shows the last four digits."""
    assert masked("79990000001:3@s.whatsapp.net") == "…0001@s.whatsapp.net"
