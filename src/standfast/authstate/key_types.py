"""The key types that Baileys stores today, and what is known of each.

Invariant: an unknown type is never an error: Baileys adds new ones, and they pass through untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OWN_PREFIX = "standfast-"
"""Types of ours, such as the host's inbox of messages on their way: short-lived, and not for any other client."""
CLEANUP_TYPE = f"{OWN_PREFIX}cleanup"
"""What a cleanup has removed last: written by the removal itself, and gone when the run has ended."""


@dataclass(frozen=True, slots=True)
class KeyType:
    """`if_lost` says what a contact or the operator sees when such keys vanish or are rolled back."""

    name: str
    id_form: str
    value_form: str
    if_lost: str


KEY_TYPES = {
    known.name: known
    for known in (
        KeyType("pre-key", "number", "key pair", "'Invalid PreKey ID': a contact's first message fails"),
        KeyType(
            "session", "user.device, user_domain.device", "Buffer", "counters repeat: receivers drop messages"
        ),
        KeyType(
            "sender-key", "group::user::device", "Buffer", "the group cannot decrypt, or cannot be decrypted"
        ),
        KeyType("sender-key-memory", "group JID", "{JID: bool}", "nothing: sender keys are handed out again"),
        KeyType(
            "app-state-sync-key", "base64", "key data", "app state is unreadable until the phone shares it"
        ),
        KeyType(
            "app-state-sync-version", "collection name", "hash state", "nothing: a snapshot is fetched again"
        ),
        KeyType("lid-mapping", "user, lid_reverse", "user", "messages go to the wrong address: 'No session'"),
        KeyType("device-list", "user", "[device]", "sessions are not migrated to LIDs"),
        KeyType("tctoken", "JID, __index", "token", "contacts answer with error 463"),
        KeyType(
            "identity-key", "user.device, user_domain.device", "Buffer", "a changed identity goes unnoticed"
        ),
    )
}


def type_of_name(name: str, more: Iterable[str] = ()) -> str | None:
    """The type in front of a `<type>-<id>` name, or None where it is none of the known ones and of `more`.
    The longest that fits: `sender-key-memory-…` is no `sender-key`."""
    fitting = [known for known in {*KEY_TYPES, *more} if name.startswith(f"{known}-")]
    return max(fitting, key=len, default=None)
