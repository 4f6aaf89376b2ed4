"""`Cipher`: values at rest, AES-256-GCM, each bound to the place that it was written for; and the key's file.

Invariant: what is opened is, bit for bit, what was sealed under this key for this very place; all else is `Unreadable`.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from standfast.errors import SettingsError

KEY_BYTES = 32
_NONCE_BYTES = 12
_PREFIX_BYTES = 8  # random for each process; the rest counts, so that no nonce comes twice under one prefix


class Unreadable(Exception):
    """A sealed value was changed, belongs elsewhere, or was sealed under another key."""


class Cipher:
    """`place` is a short text that says which value it is (company, type, id); it is authenticated, not stored."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise SettingsError(
                f"the vault's key has {len(key)} bytes; {KEY_BYTES} are needed",
                next_step="Point STANDFAST_VAULT_KEY_FILE at a file of 32 random bytes, or unset it.",
            )
        self._aes = AESGCM(key)
        self._renew()

    def seal(self, plain: bytes, place: str) -> bytes:
        """`plain` as it may lie on disk."""
        try:
            nonce = self._prefix + next(self._counter).to_bytes(4, "big")
        except OverflowError:
            self._renew()
            return self.seal(plain, place)
        return nonce + self._aes.encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed for `place`. Raises `Unreadable`."""
        try:
            return self._aes.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError, TypeError):
            raise Unreadable(
                "a value does not match its seal: it was changed on disk, or sealed under another key"
            ) from None

    def _renew(self) -> None:
        self._prefix = os.urandom(_PREFIX_BYTES)
        self._counter = itertools.count()


def read_key(file: Path) -> bytes:
    """The key that an operator keeps in `file`: 32 bytes, or 64 hexadecimal digits. Raises `SettingsError`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"the vault's key file {file} cannot be read: {error.strerror}") from error
    text = content.strip()
    if len(text) == 2 * KEY_BYTES:
        try:
            return bytes.fromhex(text.decode("ascii"))
        except ValueError:
            pass
    if len(content) != KEY_BYTES:
        raise SettingsError(
            f"the vault's key file {file} holds neither 32 bytes nor 64 hexadecimal digits",
            next_step=f"Make one: head -c 32 /dev/urandom > {file}; chmod 600 {file}",
        )
    return content


def own_key(file: Path) -> bytes:
    """The key in `file` (mode 0600), made there at first use. A file of another length is kept beside: what was sealed
    under it cannot be read any more, and whoever opens that finds out."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        content = b""
    if len(content) == KEY_BYTES:
        return content
    if content:
        file.replace(file.with_suffix(".unusable"))
    key = os.urandom(KEY_BYTES)
    beside = file.with_suffix(".new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, key)
        os.fsync(fd)
    finally:
        os.close(fd)
    beside.replace(file)
    sync_directory(file.parent)
    return key


def sync_directory(directory: Path) -> None:
    """Make names that were made or removed in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
