"""One company's state, looked at whole: each value by its type, and what belongs together.

Invariant: a healthy state has nothing above info; a state is never changed by looking at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from standfast.authstate.buffer_json import canonical, parse
from standfast.authstate.creds import parse_creds
from standfast.authstate.key_pairs import check_creds
from standfast.authstate.key_types import OWN_PREFIX
from standfast.errors import AuthStateCorrupt
from standfast.jobs.restore.rules import own_senders
from standfast.jobs.verify.finding import Places
from standfast.jobs.verify.shapes import SHAPES, indexed_tokens

_INDEX = "__index"
_REVERSE = "_reverse"
_REGISTRATION_IDS = 2**14  # Baileys draws 14 bits
_PRE_KEY_IDS = 2**24  # the protocol writes an id in three bytes


@dataclass(frozen=True, slots=True)
class State:
    """A company's auth state as one source has it: JSON by type and id."""

    creds: bytes | None = field(repr=False)
    keys: Mapping[str, Mapping[str, bytes]] = field(repr=False)

    @property
    def key_count(self) -> int:
        return sum(map(len, self.keys.values()))


def check(state: State) -> Places:
    """What is wrong with it."""
    found = Places()
    values: dict[str, dict[str, Any]] = {}
    for key_type, ids in state.keys.items():
        values[key_type] = _values(found, key_type, ids)
    creds = _creds(found, state)
    own = _own_senders(state.creds)
    _split_sender_keys(found, own)
    _pre_keys(found, creds, values)
    _groups(found, own, state, values)
    _app_state(found, creds, state)
    _pairs(found, state, values)
    _tokens(found, values)
    return found


def damaged_kind(key_type: str) -> str:
    """The kind of a value of that type that cannot be read."""
    return f"{key_type}-damaged" if key_type in SHAPES else "value-damaged"


def is_whole(key_type: str, value: bytes) -> bool:
    """Whether the value is one that Baileys reads."""
    try:
        parsed = canonical(parse(value))
    except AuthStateCorrupt:
        return False
    return key_type not in SHAPES or SHAPES[key_type](parsed)


def _values(found: Places, key_type: str, ids: Mapping[str, bytes]) -> dict[str, Any]:
    """What can be read of one type."""
    shape = SHAPES.get(key_type)
    if shape is None and not key_type.startswith(OWN_PREFIX):
        for key_id in ids:
            found.add("unknown-type", key_type, key_id)
    whole: dict[str, Any] = {}
    for key_id, raw in ids.items():
        try:
            written = parse(raw)
            value = canonical(written)
        except AuthStateCorrupt:
            found.add(damaged_kind(key_type), key_type, key_id, "not the JSON of a value")
            continue
        if (key_type, key_id) == ("tctoken", _INDEX):
            whole[key_id] = value
            continue
        if shape is not None and not shape(value):
            found.add(damaged_kind(key_type), key_type, key_id, "not of the form that is read back")
            continue
        if value != written:
            found.add("old-form", key_type, key_id)
        whole[key_id] = value
    return whole


def _creds(found: Places, state: State) -> dict[str, Any] | None:
    """The document, as far as it can be read."""
    if state.creds is None:
        if state.key_count:
            found.add("creds-missing", "creds", "", f"{state.key_count:,} keys")
        return None
    try:
        parsed = parse_creds(state.creds)
        document: dict[str, Any] = parse(state.creds)
    except AuthStateCorrupt as error:
        found.add("creds-damaged", "creds", "", error.message)
        return None
    try:
        check_creds(state.creds)
    except AuthStateCorrupt as error:
        found.add("creds-pairs", "creds", "", error.message)
    if not parsed.is_registered:
        found.add("unpaired", "creds")
    wrong = _counters(document)
    if wrong:
        found.add("creds-counters", "creds", "", wrong)
    return document


def _counters(document: Mapping[str, Any]) -> str:
    following, first = document.get("nextPreKeyId"), document.get("firstUnuploadedPreKeyId")
    if type(following) is not int or not 0 < following < _PRE_KEY_IDS:
        return "nextPreKeyId is out of range"
    if type(first) is not int or not 0 < first <= following:
        return "firstUnuploadedPreKeyId lies beyond nextPreKeyId, or is none"
    registration = document.get("registrationId")
    if type(registration) is not int or not 0 <= registration < _REGISTRATION_IDS:
        return "registrationId is out of range"
    signed = document.get("signedPreKey")
    if isinstance(signed, dict) and not isinstance(signed.get("keyId"), int):
        return "signedPreKey has no keyId"
    return ""


def _own_senders(creds: bytes | None) -> frozenset[str]:
    try:
        return frozenset(own_senders(creds)) if creds is not None else frozenset()
    except AuthStateCorrupt:
        return frozenset()


def _split_sender_keys(found: Places, own: frozenset[str]) -> None:
    """Ours go with the memory of their group; others' are another matter."""
    mixed = found.found.pop(("sender-key-damaged", "sender-key"), [])
    for key_id in mixed:
        ours = key_id.partition("::")[2] in own
        found.add("own-sender-key-damaged" if ours else "sender-key-damaged", "sender-key", key_id)


def _pre_keys(
    found: Places, creds: Mapping[str, Any] | None, values: Mapping[str, Mapping[str, Any]]
) -> None:
    following = creds.get("nextPreKeyId") if creds is not None else None
    for key_id in values.get("pre-key", ()):
        if not (key_id.isascii() and key_id.isdecimal()):
            found.add("pre-key-damaged", "pre-key", key_id, "its id is no number")
        elif type(following) is int and int(key_id) >= following:
            found.add("pre-key-ahead", "pre-key", key_id)


def _groups(
    found: Places, own: frozenset[str], state: State, values: Mapping[str, Mapping[str, Any]]
) -> None:
    if not own:
        return
    sender_keys = state.keys.get("sender-key", {})
    for group, memory in values.get("sender-key-memory", {}).items():
        has_own = any(f"{group}::{sender}" in sender_keys for sender in own)
        if any(memory.values()) and not has_own:
            found.add("sender-key-memory-stale", "sender-key-memory", group)


def _app_state(found: Places, creds: Mapping[str, Any] | None, state: State) -> None:
    keys = state.keys.get("app-state-sync-key", {})
    named = creds.get("myAppStateKeyId") if creds is not None else None
    if isinstance(named, str) and named and named not in keys:
        found.add("app-state-sync-key-missing", "app-state-sync-key", named)
    if not keys:
        for name in state.keys.get("app-state-sync-version", {}):
            found.add("app-state-sync-version-keyless", "app-state-sync-version", name)


def missing_sides(state: State, values: Mapping[str, Any]) -> dict[str, str]:
    """The sides of lid-mappings that are missing altogether, by id, as they follow from the other side. One that names
    somebody else is none: numbers and LIDs change hands, and Baileys keeps what they were."""
    there = state.keys.get("lid-mapping", {})
    wanted: dict[str, str] = {}
    for key_id, other in values.items():
        if key_id.endswith(_REVERSE):
            wanted.setdefault(other, key_id.removesuffix(_REVERSE))
        else:
            wanted.setdefault(f"{other}{_REVERSE}", key_id)
    return {key_id: user for key_id, user in wanted.items() if key_id not in there}


def mappings(state: State) -> dict[str, Any]:
    """The lid-mappings that can be read."""
    return _values(Places(), "lid-mapping", state.keys.get("lid-mapping", {}))


def _pairs(found: Places, state: State, values: Mapping[str, Mapping[str, Any]]) -> None:
    for key_id in missing_sides(state, values.get("lid-mapping", {})):
        found.add("lid-mapping-half", "lid-mapping", key_id)


def _tokens(found: Places, values: Mapping[str, Mapping[str, Any]]) -> None:
    tokens = values.get("tctoken", {})
    named: set[str] | None = set()
    if _INDEX in tokens:
        named = indexed_tokens(tokens[_INDEX])
        if named is None:
            found.add("tctoken-index-damaged", "tctoken", _INDEX)
            return
    for jid in tokens.keys() - {_INDEX} - (named or set()):
        found.add("tctoken-unindexed", "tctoken", jid)
