"""Phone numbers and WhatsApp addresses (JIDs) as people write them.

Invariant: what leaves here as digits is a valid international number without '+'.
"""

from __future__ import annotations

import re

import phonenumbers

from standfast.errors import UsageError

_JID = re.compile(r"[0-9A-Za-z._:-]{1,80}@(s\.whatsapp\.net|lid|g\.us|broadcast|newsletter)")


def phone_digits(text: str, default_region: str | None = None) -> str:
    """`text` as international digits: '+7 (999) 000-00-01' → '79990000001'.

    National forms (8 9xx… in Russia) need `default_region`, an ISO 3166 code. Raises `UsageError`,
    without repeating the number, where it cannot be a phone number.
    """
    candidate = text.strip()
    for attempt, region in _readings(candidate, default_region):
        try:
            number = phonenumbers.parse(attempt, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_possible_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
    raise UsageError(
        "that is not a phone number that WhatsApp could know",
        next_step="Write it in international form, such as +79990000001, or set STANDFAST_DEFAULT_REGION.",
    )


def _readings(candidate: str, region: str | None) -> list[tuple[str, str | None]]:
    if candidate.startswith("+"):
        return [(candidate, None)]
    readings: list[tuple[str, str | None]] = []
    if region:
        readings.append((candidate, region))
    readings.append(("+" + candidate, None))
    return readings


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


def masked(text: str) -> str:
    """A number or JID fit for a log: the last four digits only."""
    user, _, server = text.partition("@")
    tail = user.split(":")[0][-4:]
    return f"…{tail}" + (f"@{server}" if server else "")
