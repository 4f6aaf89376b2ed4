"""Addresses of chats: which of a chat's two WhatsApp addresses it is known by here.

Invariant: one chat has one name, whether a message came from it or goes to it, as far as its phone number is known.
"""

from __future__ import annotations

_PHONE_SERVER = "@s.whatsapp.net"


def chat_name(chat: str, chat_alt: str | None = None) -> str:
    """The phone-number form where there is one, without the number of a device."""
    for address in (chat, chat_alt or ""):
        if address.endswith(_PHONE_SERVER):
            return without_device(address)
    return without_device(chat)


def without_device(address: str) -> str:
    """`79990000001:12@s.whatsapp.net` → `79990000001@s.whatsapp.net`."""
    user, at, server = address.partition("@")
    return user.partition(":")[0] + at + server
