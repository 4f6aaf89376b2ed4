"""How segments are sealed: a key of its own for each, which only those can open whom the settings name.

Invariant: without BACKUP_RECIPIENTS=none no value lies in the clear; each block is authenticated for its place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from standfast.errors import BackupDamaged, SettingsError
from standfast.jobs.backup.catalogue import write_private
from standfast.jobs.backup.sealing import identities, recipients
from standfast.settings import Settings

Sealing = Literal["age", "own", "none"]
OWN_IDENTITY = "changelog.identity"
_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Sealer:
    """Makes the key of each segment. `recipients` is empty where nothing is to be encrypted."""

    sealing: Sealing
    recipients: Sequence[pyrage.x25519.Recipient]

    @classmethod
    def of(cls, settings: Settings) -> Sealer:
        """As the settings say; an identity of this node's own is made at first use where they name no recipient.
        Raises `SettingsError`, and `OSError` where that cannot be written."""
        given = recipients(settings)
        if given:
            return cls("age", given)
        if settings.backup_recipients:
            return cls("none", ())
        return cls("own", [own_identity(settings).to_public()])

    def new_key(self) -> tuple[bytes, bytes]:
        """A key, and the same as it may lie in a file."""
        key = os.urandom(_KEY_BYTES)
        if self.sealing == "none":
            return key, key
        return key, pyrage.encrypt(key, list(self.recipients))


class Opener:
    """Opens keys with the identities that are on this machine."""

    def __init__(self, keys: Sequence[pyrage.x25519.Identity]) -> None:
        self._identities = list(keys)

    @classmethod
    def of(cls, settings: Settings) -> Opener:
        """Raises `SettingsError` where the file of BACKUP_IDENTITY_FILE cannot be used."""
        found = identities(settings)
        if _own_path(settings).exists():
            found.append(own_identity(settings))
        return cls(found)

    def key(self, sealing: str, sealed_key: bytes) -> bytes | None:
        """None where no identity of this machine opens it."""
        if sealing == "none":
            return sealed_key
        if not self._identities:
            return None
        try:
            key: bytes = pyrage.decrypt(sealed_key, self._identities)
        except pyrage.DecryptError:
            return None
        return key


def seal(key: bytes, block: bytes, place: bytes) -> bytes:
    """`place` is what it is authenticated for."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, block, place)


def unseal(key: bytes, sealed: bytes, place: bytes) -> bytes:
    """Raises `BackupDamaged`."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
    except (InvalidTag, ValueError):
        raise BackupDamaged("a block of the change log does not match its seal: it was changed") from None


def own_identity(settings: Settings) -> pyrage.x25519.Identity:
    """The node's own, made where there is none. Raises `OSError`; `SettingsError` where it is damaged."""
    path = _own_path(settings)
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, f"{pyrage.x25519.Identity.generate()}\n".encode())
    try:
        return pyrage.x25519.Identity.from_str(path.read_text().strip())
    except (pyrage.IdentityError, UnicodeDecodeError):
        raise SettingsError(
            f"{path} holds no identity",
            next_step="Bring back the file that was there: segments that were sealed under it cannot be opened "
            "without it. Or move it aside: a new one is made.",
        ) from None


def _own_path(settings: Settings) -> Path:
    return settings.state_dir / "vault" / OWN_IDENTITY
