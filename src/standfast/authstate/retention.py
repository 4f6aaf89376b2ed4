"""Which keys may go because of their age alone: the one place that says so.

Invariant: what is not known to be safe stays. A type that Standfast does not know, or that is its own, has no age
limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from standfast.authstate.key_types import OWN_PREFIX


@dataclass(frozen=True, slots=True)
class Retention:
    """`by_age`: a key of the type may be removed once it was not written for the retention, and for `at_least_days`
    whatever the retention is; `kept_ids` stay all the same. `reason` says why, or why not."""

    by_age: bool
    reason: str
    at_least_days: int = 0
    kept_ids: frozenset[str] = field(default_factory=frozenset)


_KEEP_UNKNOWN = Retention(False, "nothing is known of the type")
_KEEP_OWN = Retention(False, "it holds messages on their way; it is emptied when they have arrived")

RETENTIONS = {
    "session": Retention(True, "a contact that was silent for so long costs one retry"),
    "sender-key-memory": Retention(True, "the group's sender key is handed out again with the next message"),
    "tctoken": Retention(
        True, "tokens are worthless after four weeks", at_least_days=28, kept_ids=frozenset({"__index"})
    ),
    "pre-key": Retention(False, "WhatsApp may still hand it out; then a contact's first message would fail"),
    "sender-key": Retention(False, "the group's messages could not be read, or ours not by the group"),
    "app-state-sync-key": Retention(False, "app state would be unreadable until the phone shares it again"),
    "app-state-sync-version": Retention(False, "a few rows; each would cost a snapshot"),
    "identity-key": Retention(False, "a changed identity would go unnoticed"),
    "lid-mapping": Retention(False, "one side of a pair alone sends messages to the wrong address"),
    "device-list": Retention(False, "sessions would not be migrated to LIDs"),
}
"""By key type."""


def retention_of(key_type: str) -> Retention:
    """What holds for keys of that type."""
    if key_type.startswith(OWN_PREFIX):
        return _KEEP_OWN
    return RETENTIONS.get(key_type, _KEEP_UNKNOWN)


def age_limit_days(key_type: str, retention_days: int) -> int | None:
    """The age from which on keys of the type may be removed; None: never by age."""
    rule = retention_of(key_type)
    return max(retention_days, rule.at_least_days) if rule.by_age else None
