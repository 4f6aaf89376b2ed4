"""What the value of each key type looks like, as Baileys and libsignal read it back.

Invariant: what they read rightly is no finding, in whichever of the known forms it is written; no value gets into a
message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from standfast.authstate.buffer_json import as_bytes, parse
from standfast.errors import AuthStateCorrupt

_KEY_BYTES = 32
_HASH_BYTES = 128
_VERSION = "v1"


def is_key_pair(value: Any) -> bool:
    """A pre-key: 32 bytes each, and the public half is that of the private one."""
    return isinstance(value, dict) and _is_pair(value.get("public"), value.get("private"))


def is_session(value: Any) -> bool:
    """A record of libsignal's: sessions by base key."""
    if not isinstance(value, dict) or value.get("version", _VERSION) != _VERSION:
        return False
    sessions = value.get("_sessions")
    return isinstance(sessions, dict) and all(map(_is_session_entry, sessions.values()))


def is_sender_key(value: Any) -> bool:
    """Bytes that are the JSON of the states of one sender; an empty list before the first."""
    try:
        states = parse(value.encode() if isinstance(value, str) else as_bytes(value))
    except AuthStateCorrupt:
        return False
    return isinstance(states, list) and all(map(_is_sender_state, states))


def is_memory(value: Any) -> bool:
    """Who has our sender key: truths by JID."""
    return isinstance(value, dict) and all(isinstance(one, bool) for one in value.values())


def is_app_state_key(value: Any) -> bool:
    return isinstance(value, dict) and _has_bytes(value.get("keyData"))


def is_app_state_version(value: Any) -> bool:
    """The version of a collection: its hash, and what is in it."""
    if not isinstance(value, dict) or not _is_count(value.get("version")):
        return False
    entries = value.get("indexValueMap")
    return (
        _has_bytes(value.get("hash"), _HASH_BYTES)
        and isinstance(entries, dict)
        and all(isinstance(one, dict) and _has_bytes(one.get("valueMac")) for one in entries.values())
    )


def is_user(value: Any) -> bool:
    """One side of a lid-mapping."""
    return isinstance(value, str) and bool(value)


def is_devices(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, (str, int)) for one in value)


def is_identity(value: Any) -> bool:
    return _has_bytes(value, _KEY_BYTES, _KEY_BYTES + 1)


def is_token(value: Any) -> bool:
    """A privacy token; one that has expired is kept with no bytes in it."""
    return isinstance(value, dict) and ("token" not in value or _is_bytes(value["token"]))


def indexed_tokens(value: Any) -> set[str] | None:
    """The JIDs that an index of privacy tokens names; None where it cannot be read."""
    try:
        names = parse(as_bytes(value.get("token") if isinstance(value, dict) else None))
    except AuthStateCorrupt:
        return None
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        return None
    return set(names)


SHAPES: dict[str, Callable[[Any], bool]] = {
    "pre-key": is_key_pair,
    "session": is_session,
    "sender-key": is_sender_key,
    "sender-key-memory": is_memory,
    "app-state-sync-key": is_app_state_key,
    "app-state-sync-version": is_app_state_version,
    "lid-mapping": is_user,
    "device-list": is_devices,
    "identity-key": is_identity,
    "tctoken": is_token,
}


def _is_session_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    ratchet, index, chains = entry.get("currentRatchet"), entry.get("indexInfo"), entry.get("_chains")
    if not (isinstance(ratchet, dict) and isinstance(index, dict) and isinstance(chains, dict)):
        return False
    pair = ratchet.get("ephemeralKeyPair")
    return (
        isinstance(pair, dict)
        and _is_pair(pair.get("pubKey"), pair.get("privKey"))
        and _is_bytes(ratchet.get("lastRemoteEphemeralKey"))
        and _has_bytes(ratchet.get("rootKey"), _KEY_BYTES)
        and _is_number(ratchet.get("previousCounter"))
        and _is_bytes(index.get("baseKey"))
        and _is_number(index.get("closed"))
        and _has_bytes(index.get("remoteIdentityKey"))
        and all(map(_is_chain, chains.values()))
    )


def _is_chain(chain: Any) -> bool:
    if not isinstance(chain, dict):
        return False
    key, spared = chain.get("chainKey"), chain.get("messageKeys")
    return (
        isinstance(key, dict)
        and _is_number(key.get("counter"))
        and (key.get("key") is None or _is_bytes(key["key"]))  # a chain that was closed has none
        and isinstance(spared, dict)
        and all(map(_is_bytes, spared.values()))
    )


def _is_sender_state(state: Any) -> bool:
    if not isinstance(state, dict):
        return False
    chain, signing = state.get("senderChainKey"), state.get("senderSigningKey")
    return (
        _is_count(state.get("senderKeyId"))
        and isinstance(chain, dict)
        and _is_count(chain.get("iteration"))
        and _is_bytes(chain.get("seed"))
        and isinstance(signing, dict)
        and _has_bytes(signing.get("public"), _KEY_BYTES, _KEY_BYTES + 1)
    )


def _is_pair(public: Any, private: Any) -> bool:
    try:
        known, secret = as_bytes(public), as_bytes(private)
    except AuthStateCorrupt:
        return False
    if len(secret) != _KEY_BYTES or len(known) not in (_KEY_BYTES, _KEY_BYTES + 1):
        return False
    made = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return made == known[-_KEY_BYTES:]  # libsignal writes the curve's type before it, or does not


def _is_bytes(value: Any) -> bool:
    try:
        as_bytes(value)
    except AuthStateCorrupt:
        return False
    return True


def _has_bytes(value: Any, *lengths: int) -> bool:
    try:
        found = as_bytes(value)
    except AuthStateCorrupt:
        return False
    return len(found) in lengths if lengths else bool(found)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0
