"""What may be put back as it was, and what may not, once a state of the past takes the place of a later one.

Invariant: no ratchet is put back that contacts have seen further on: sessions and the company's own sender keys of the
past are left out, and no pre-key's id is given out twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from standfast.authstate.buffer_json import parse
from standfast.authstate.creds import parse_creds
from standfast.errors import AuthStateCorrupt

MEMORY = "sender-key-memory"
SESSION = "session"
SENDER_KEY = "sender-key"
_PRE_KEY_IDS = 2**24  # the protocol writes an id in three bytes
_IDS_AHEAD = 10_000
_IDS_A_DAY = 5_000
_DAY_S = 86_400.0
_COUNTERS = ("nextPreKeyId", "firstUnuploadedPreKeyId")


@dataclass(frozen=True, slots=True)
class Ruled:
    """What of a stored state is put in place: `creds` as they are to be, key types to leave out, and of the sender keys
    those whose sender (`user::device`) is named."""

    creds: bytes = field(repr=False)
    dropped_types: tuple[str, ...]
    dropped_senders: tuple[str, ...] = field(default=(), repr=False)


def as_it_was(creds: bytes) -> Ruled:
    """Nothing was written since: all of it stands, but for who has our sender keys, which is asked anew."""
    return Ruled(creds, (MEMORY,))


def rolled_back(creds: bytes, *, age_s: float, issued: int = 0) -> Ruled:
    """Something may have been written since. `issued`: the first id of a pre-key that is known not to have been given
    out; more may have been, the more the older (`age_s`) the state is."""
    return Ruled(_counted_on(creds, age_s, issued), (SESSION, MEMORY), own_senders(creds))


def own_senders(creds: bytes) -> tuple[str, ...]:
    """Under which names Baileys keeps the sender keys of this very device: `user::device`, by number and by LID."""
    known = parse_creds(creds)
    found = set()
    for jid in (known.me_jid, known.me_lid):
        if jid is None:
            continue
        account, _, server = jid.partition("@")
        user, _, device = account.partition(":")
        names = (f"{user}_1", user) if server == "lid" else (user,)
        found |= {f"{name}::{device or '0'}" for name in names}
    return tuple(sorted(found))


def kept(ruled: Ruled, key_type: str, key_id: str) -> bool:
    """Whether a key is put in place."""
    if key_type in ruled.dropped_types:
        return False
    return key_type != SENDER_KEY or key_id.partition("::")[2] not in ruled.dropped_senders


def _counted_on(creds: bytes, age_s: float, issued: int) -> bytes:
    """Past every id that may be at WhatsApp already. The two counters become one: Baileys then finds its newest pre-key
    missing and uploads fresh ones."""
    document: dict[str, Any] = parse(creds)
    ahead = max(_IDS_AHEAD, int(age_s / _DAY_S * _IDS_A_DAY))
    first = max(_number(document, name) for name in _COUNTERS)
    if max(first, issued) + _IDS_AHEAD >= _PRE_KEY_IDS:
        raise AuthStateCorrupt(
            "the ids of pre-keys are used up: no more fit into the protocol's three bytes",
            next_step="Unlink the device and pair anew.",
        )
    first = min(max(first, issued) + ahead, _PRE_KEY_IDS - _IDS_AHEAD)
    return json.dumps(document | dict.fromkeys(_COUNTERS, first), separators=(",", ":")).encode()


def _number(document: dict[str, Any], name: str) -> int:
    value = document.get(name, 0)
    return value if type(value) is int and value > 0 else 0
