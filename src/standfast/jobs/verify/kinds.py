"""What can be wrong with stored auth state: how bad it is, what it causes, what a repair may do about it.

Invariant: a repair offers only what a key's type tolerates: creds, identities and app-state keys are never touched,
and nothing that costs a contact something is done without being asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "info"]
Remedy = Literal["remove", "complete", "none"]


@dataclass(frozen=True, slots=True)
class Kind:
    """`remedy`: what repair does with the keys. `is_safe`: it costs nobody more than a retry. `costs`: what the remedy
    costs, or, without one, what to do."""

    level: Level
    what: str
    causes: str
    remedy: Remedy = "none"
    is_safe: bool = False
    costs: str = ""


_RESTORE = "Bring it back: standfast restore --at latest --company COMPANY, or standfast backup restore."
_REPLACED = "WhatsApp's own answer takes its place."

KINDS: dict[str, Kind] = {
    "creds-missing": Kind(
        "error", "keys without creds", "the company cannot log in", costs=_RESTORE + " Or pair it anew."
    ),
    "creds-damaged": Kind("error", "creds cannot be read", "the company cannot log in", costs=_RESTORE),
    "creds-pairs": Kind(
        "error", "keys within the creds do not match", "logins or first messages fail", costs=_RESTORE
    ),
    "creds-counters": Kind(
        "warning",
        "counters in the creds are not plausible",
        "pre-keys may be given out twice",
        costs=_RESTORE,
    ),
    "value-damaged": Kind(
        "error", "a value of an unknown type cannot be read", "depends on the type", costs=_RESTORE
    ),
    "pre-key-damaged": Kind(
        "error",
        "a pre-key is no key pair",
        "the first message of a contact who was given it fails",
        "remove",
        costs="Such a contact's first message fails with 'Invalid PreKey ID', as it does now, and is sent again.",
    ),
    "pre-key-ahead": Kind(
        "warning",
        "pre-keys beyond nextPreKeyId: the creds are older than the keys",
        "their ids are given out again, and messages to the former ones fail",
        costs="See 'creds are older' in docs/verify.md.",
    ),
    "session-damaged": Kind(
        "error",
        "a session is no record of libsignal's",
        "messages of and to that device fail",
        "remove",
        is_safe=True,
        costs="One retry: the next message begins a new session.",
    ),
    "own-sender-key-damaged": Kind(
        "error",
        "an own sender key cannot be read",
        "sending to the group fails",
        "remove",
        is_safe=True,
        costs="None: with its sender-key-memory it is made and handed out anew.",
    ),
    "sender-key-damaged": Kind(
        "error",
        "a member's sender key cannot be read",
        "that member's messages in the group fail",
        "remove",
        costs="'No SenderKeyRecord' until the member hands the key out again, upon a retry.",
    ),
    "sender-key-memory-damaged": Kind(
        "error",
        "a memory of who has our sender key cannot be read",
        "members may lack our sender key",
        "remove",
        is_safe=True,
        costs="None: the sender key is handed out again.",
    ),
    "sender-key-memory-stale": Kind(
        "warning",
        "members are noted as having a sender key that is gone",
        "'Waiting for this message' at members, for ever",
        "remove",
        is_safe=True,
        costs="None: the sender key is handed out again.",
    ),
    "app-state-sync-key-damaged": Kind(
        "error",
        "an app-state key cannot be read",
        "settings of the phone cannot be followed",
        costs="The phone shares it again in time. " + _RESTORE,
    ),
    "app-state-sync-key-missing": Kind(
        "warning",
        "the app-state key that the creds name is missing",
        "settings of the phone cannot be changed",
        costs="The phone shares it again in time. " + _RESTORE,
    ),
    "app-state-sync-version-damaged": Kind(
        "error",
        "a version of app state cannot be read",
        "settings of the phone are not followed",
        "remove",
        is_safe=True,
        costs="None: a snapshot is fetched.",
    ),
    "app-state-sync-version-keyless": Kind(
        "warning",
        "versions of app state without any app-state key",
        "what comes next cannot be read",
        "remove",
        is_safe=True,
        costs="None: a snapshot is fetched once the phone has shared the key.",
    ),
    "lid-mapping-half": Kind(
        "warning",
        "one side of a lid-mapping is missing",
        "messages go to the wrong address: 'No session'",
        "complete",
        is_safe=True,
        costs="None: the missing side follows from the other.",
    ),
    "lid-mapping-damaged": Kind(
        "error", "a lid-mapping cannot be read", "messages go to the wrong address", costs=_RESTORE
    ),
    "device-list-damaged": Kind(
        "error", "a device list cannot be read", "sessions are not moved to LIDs", costs=_REPLACED
    ),
    "identity-key-damaged": Kind(
        "error", "an identity key cannot be read", "a changed identity goes unnoticed", costs=_RESTORE
    ),
    "tctoken-damaged": Kind(
        "error",
        "a privacy token cannot be read",
        "messages to that contact may be refused (463)",
        "remove",
        costs="463 from that contact until the next token comes, as now.",
    ),
    "tctoken-index-damaged": Kind(
        "warning", "the index of privacy tokens cannot be read", "old tokens are not pruned", costs=_REPLACED
    ),
    "tctoken-unindexed": Kind("info", "privacy tokens that the index does not name", "they are not pruned"),
    "differs": Kind(
        "error",
        "PostgreSQL and the replica differ at the same sequence",
        "somebody else has written one of them",
        costs="Choose: standfast repair --prefer replica, or --prefer postgresql.",
    ),
    "gone": Kind(
        "error",
        "PostgreSQL has nothing of a company that this node holds",
        "the session goes on; a restart of the service would believe PostgreSQL",
        costs="Restart nothing. Put the replica in place: standfast restore --at latest --company COMPANY",
    ),
    "behind": Kind(
        "warning",
        "the replica is behind PostgreSQL under the same epoch",
        "this node would go on with an old state in an outage",
        costs="A start of the session brings it up to date.",
    ),
    "file-unreadable": Kind(
        "error",
        "a file of the folder cannot be read",
        "a bot that starts from the folder lacks it",
        costs="Write the folder anew: standfast emergency to-files, or standfast export.",
    ),
    "old-form": Kind("info", "values in a form of older stores", "nothing: they are read rightly"),
    "unknown-type": Kind("info", "keys of a type that is not known here", "nothing: they pass through"),
    "unpaired": Kind("info", "creds that WhatsApp has not accepted yet", "a pairing was begun"),
    "lease-without-state": Kind("info", "a lease of a company without auth state", "a pairing was begun"),
    "session-without-state": Kind(
        "info", "a session on record of a company without auth state", "it waits to be paired"
    ),
    "odd-name": Kind("info", "a company whose id Standfast cannot use", "it opens no session of that name"),
}
