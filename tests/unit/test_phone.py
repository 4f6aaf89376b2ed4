"""Phone numbers and addresses as people write them."""

import re

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from standfast.errors import UsageError
from standfast.sessions.phone import address, masked, number_of, phone_digits

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
MOBILE = {region: phonenumbers.example_number_for_type(region, PhoneNumberType.MOBILE) for region in REGIONS}
SEPARATORS = st.text("  .-/()\u00a0\u2011", max_size=2)


@pytest.mark.parametrize(
    ("text", "region", "digits"),
    [
        ("+7 (999) 000-00-01", None, "79990000001"),
        ("79990000001", None, "79990000001"),
        ("8 999 000 00 01", "RU", "79990000001"),
        ("+7 999 000 00 01", "US", "79990000001"),
        ("202-555-0101", "US", "12025550101"),
        ("89990000001", "RU", "79990000001"),
        ("8(999)000-00-01", "KZ", "79990000001"),
        ("9990000001", "RU", "79990000001"),
        ("8 10 49 151 12345678", "RU", "4915112345678"),
        ("00 7 999 000 00 01", None, "79990000001"),
        ("(+7) 999 000\u201100\u201101", None, "79990000001"),
        ("\u2068+7 999 000 00 01\u2069", None, "79990000001"),
        ("84912345678", None, "84912345678"),
        ("8613800138000", None, "8613800138000"),
        ("551187654321", None, "551187654321"),
    ],
)
def test_a_phone_number_is_read_in_its_usual_spellings(text: str, region: str | None, digits: str) -> None:
    """International forms need no region; national ones use the default region."""
    assert phone_digits(text, region) == digits


@pytest.mark.parametrize("region", ["DE", "US", "CN", "RU"])
def test_international_digits_are_what_they_are_in_any_region(region: str) -> None:
    """Without '+' too: a region whose numbers may be as long does not make them its own."""
    assert phone_digits("79990000001", region) == "79990000001"


REFUSED = [
    *(
        "",
        "+",
        "abc",
        "123",
        "+7999",
        "7999000000100000000",
        "1800FLOWERS",
        "+7 999 000-00-01 ext. 5",
        "7++9990000001",
    ),
    # National forms without a region: no other country's number is made of them.
    *(
        "8 999 000-00-01",
        "89990000001",
        "8(999)0000001",
        "8 495 000-00-01",
        "84110000001",
        "9161234567",
        "9990000001",
    ),
    # Too short and too long by one digit.
    *("+7999000000", "+799900000011", "+1 555 0101"),
]


@pytest.mark.parametrize("text", REFUSED)
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


@pytest.mark.parametrize(
    ("jid", "digits"),
    [
        ("79990000001:3@s.whatsapp.net", "79990000001"),
        ("79990000001@s.whatsapp.net", "79990000001"),
        ("799900000010@lid", None),
        ("1203-55@g.us", None),
        ("", None),
        (None, None),
    ],
)
def test_the_number_of_an_address_is_that_of_its_account(jid: str | None, digits: str | None) -> None:
    """Whichever device it names; an address without a number has none."""
    assert number_of(jid) == digits


@settings(max_examples=50)
@given(st.sampled_from(REGIONS), st.data())
def test_every_countrys_numbers_are_read_in_every_spelling(region: str, data: st.DataObject) -> None:
    """International with any separators, and national with the region: always the same digits."""
    number = MOBILE[region]
    if number is None:
        return
    digits = phonenumbers.format_number(number, PhoneNumberFormat.E164)[1:]
    spaced = "".join(digit + data.draw(SEPARATORS) for digit in digits)
    assert phone_digits(f"+{spaced}") == digits
    assert phone_digits(phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)) == digits
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    assert phone_digits(national, region) == digits


@given(
    st.text("+0123456789 -()abc\u0667\u202a", max_size=30), st.sampled_from([None, "RU", "DE", "US", "XX"])
)
@example("+490000000", None)
def test_whatever_is_written_is_a_number_or_refused(text: str, region: str | None) -> None:
    """7 to 15 digits that read as themselves with a '+', or a `UsageError`."""
    try:
        digits = phone_digits(text, region)
    except UsageError:
        return
    assert re.fullmatch("[1-9][0-9]{6,14}", digits)
    assert phone_digits(f"+{digits}") == digits
