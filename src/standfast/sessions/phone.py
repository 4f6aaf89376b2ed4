"""Phone numbers and WhatsApp addresses (JIDs) as people write them.

Invariant: what leaves here as digits is a number that its country could have given out, in international form without
'+'; where digits could be meant in two ways they are refused rather than guessed. No error repeats the number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberFormat, ValidationResult

from standfast.errors import UsageError

_JID = re.compile(r"[0-9A-Za-z._:-]{1,80}@(s\.whatsapp\.net|lid|g\.us|broadcast|newsletter)")
_WRITTEN = re.compile(r"\(?\+?[\d\s()./\u2010-\u2015\u2212-]{3,40}")
_DIGITS = re.compile(r"[1-9][0-9]{6,14}")
# No country's code is 8 alone: it leads to a national number, in Russia and its neighbours.
_TRUNK_8 = re.compile(r"\(?8[^0-9]")
# So many digits have room for a country code and a whole number; fewer may lack the code.
_WITH_COUNTRY_CODE = 11


# The same chats are written to again and again, and reading a number takes as long as keeping a message.
@lru_cache(maxsize=4_096)
def phone_digits(text: str, default_region: str | None = None) -> str:
    """`text` as international digits: '+7 (999) 000-00-01' → '79990000001'.

    National forms (8 9xx… in Russia) need `default_region`, an ISO 3166 code, which is believed first. Without '+' and
    without a region, digits that may be a national form (8…, or fewer than 11) must be a number in use. Raises
    `UsageError`, without repeating the number, where it cannot be a phone number.
    """
    for number in _readings(_cleaned(text), default_region):
        digits = _international(number)
        # Read once more it must be the same: of zeros alone the first is taken for a trunk prefix each time.
        again = _parsed(f"+{digits}", None, in_use=False)
        if _DIGITS.fullmatch(digits) and digits in map(_international, again):
            return digits
    raise UsageError(
        "that is not a phone number that WhatsApp could know",
        next_step="Write it in international form, such as +79990000001, or set STANDFAST_DEFAULT_REGION.",
    )


def _international(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)[1:]


def _cleaned(text: str) -> str:
    """`text` without what contact lists put invisibly round a number; empty where it is not written like one."""
    visible = (
        "".join(char for char in text if unicodedata.category(char) != "Cf").replace("\uff0b", "+").strip()
    )
    return visible if _WRITTEN.fullmatch(visible) else ""


def _readings(candidate: str, region: str | None) -> Iterator[PhoneNumber]:
    """What the text may mean, the likeliest first."""
    if "+" in candidate:
        yield from _parsed(candidate, None, in_use=False)
        return
    if region:
        yield from _parsed(candidate, region, in_use=True)
    elif _TRUNK_8.match(candidate):
        return
    international = "+" + re.sub(r"^[\s(]*00", "", candidate)
    yield from _parsed(international, None, in_use=True)
    if region:
        yield from _parsed(candidate, region, in_use=False)
    digits = re.sub(r"\D", "", international)
    if len(digits) >= _WITH_COUNTRY_CODE and not digits.startswith("8"):
        yield from _parsed(international, None, in_use=False)


def _parsed(text: str, region: str | None, *, in_use: bool) -> Iterator[PhoneNumber]:
    """The number, where its country has such numbers: of a range in use, or of the right length."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return
    if in_use and phonenumbers.is_valid_number(number):
        yield number
    if not in_use and phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE:
        yield number


def address(text: str, default_region: str | None = None) -> str:
    """`text` as a JID: a JID stays as it is, a phone number becomes `<digits>@s.whatsapp.net`."""
    if "@" in text:
        if not _JID.fullmatch(text):
            raise UsageError(
                "that is not a WhatsApp address",
                next_step="Use a phone number, or <id>@s.whatsapp.net, <id>@lid or <id>@g.us.",
            )
        return text
    return phone_digits(text, default_region) + "@s.whatsapp.net"


def number_of(jid: str | None) -> str | None:
    """The digits of a phone-number JID, of whichever device; None for other addresses."""
    found = re.fullmatch(r"([0-9]{5,20})(?:_[0-9]+)?(?::[0-9]+)?@(?:s\.whatsapp\.net|c\.us)", jid or "")
    return found[1] if found else None


def masked(text: str) -> str:
    """A number or JID fit for a log: the last four digits only."""
    user, _, server = text.partition("@")
    tail = user.split(":")[0][-4:]
    return f"…{tail}" + (f"@{server}" if server else "")
