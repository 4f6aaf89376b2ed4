"""Values at rest: what is opened is what was sealed, for that very place, under that very key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from standfast.errors import SettingsError
from standfast.vault.storage.cipher import KEY_BYTES, Cipher, Unreadable, own_key, read_key


def test_what_was_sealed_is_opened() -> None:
    """Empty values too; and nothing of a value can be seen."""
    cipher = Cipher(os.urandom(KEY_BYTES))
    for value in (b"", b"secret " * 100):
        sealed = cipher.seal(value, "acme")
        assert cipher.open(sealed, "acme") == value
        assert b"secret" not in sealed


def test_no_nonce_comes_twice() -> None:
    """Also where the same value is sealed for the same place."""
    cipher = Cipher(os.urandom(KEY_BYTES))
    assert len({cipher.seal(b"same", "place")[:12] for _ in range(1_000)}) == 1_000


@pytest.mark.parametrize("position", [0, 11, 12, -1])
def test_a_flipped_bit_is_found(position: int) -> None:
    """In the nonce, the text and the tag."""
    cipher = Cipher(os.urandom(KEY_BYTES))
    sealed = bytearray(cipher.seal(b"value", "place"))
    sealed[position] ^= 1
    with pytest.raises(Unreadable):
        cipher.open(bytes(sealed), "place")


def test_a_value_of_another_place_key_or_length_is_unreadable() -> None:
    """A row that got under another name is not taken for that one's."""
    cipher = Cipher(os.urandom(KEY_BYTES))
    sealed = cipher.seal(b"value", "place")
    for broken, opener, place in (
        (sealed, cipher, "other"),
        (sealed, Cipher(os.urandom(KEY_BYTES)), "place"),
        (sealed[:-1], cipher, "place"),
        (sealed[:5], cipher, "place"),
        (b"", cipher, "place"),
    ):
        with pytest.raises(Unreadable):
            opener.open(broken, place)


def test_the_own_key_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    """A file of another length is kept beside and never used."""
    file = tmp_path / "vault.key"
    key = own_key(file)
    assert (len(key), own_key(file), stat.S_IMODE(file.stat().st_mode)) == (KEY_BYTES, key, 0o600)
    file.write_bytes(key[:10])
    assert own_key(file) != key
    assert (tmp_path / "vault.unusable").read_bytes() == key[:10]


def test_an_operators_key_is_read_as_bytes_or_digits(tmp_path: Path) -> None:
    """Anything else is refused, and the message holds nothing of it."""
    file, key = tmp_path / "key", os.urandom(KEY_BYTES)
    for content in (key, key.hex().encode(), key.hex().encode() + b"\n"):
        file.write_bytes(content)
        assert read_key(file) == key
    for content in (b"", b"too short", b"z" * 64, key + b"more"):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match="holds neither") as refused:
            read_key(file)
        assert "too short" not in str(refused.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_key(tmp_path / "absent")
    with pytest.raises(SettingsError, match="31 bytes"):
        Cipher(key[1:])
