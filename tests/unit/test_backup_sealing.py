"""A backup's file, written and read back through every part, and each kind of damage."""

from __future__ import annotations

import io
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest

from standfast.errors import BackupDamaged, SettingsError
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.manifest import Content, Manifest, Record
from standfast.jobs.backup.sealing import can_open, identities, opened, recipients, seal
from standfast.settings import Settings

Identity = pyrage.x25519.Identity
PLAIN = b"".join(os.urandom(500) + b"a" * 4_000 for _ in range(100))


@dataclass
class Case:
    backup: Backup
    identity: Any

    @property
    def keys(self) -> list[Any]:
        return [self.identity] if self.identity else []

    def read(self) -> bytes:
        with opened(self.backup, self.keys) as stream:
            return stream.read()


def made(directory: Path, identity: Any, plain: bytes = PLAIN) -> Case:
    """A backup of `plain`."""
    target = directory / "content.dump.zst"
    to = [identity.to_public()] if identity else []
    sealed = seal(io.BytesIO(plain), target, level=3, to=to)
    content = Content(
        target.name, sealed.bytes, sealed.sha256, sealed.plain_bytes, "zstd", encrypted=bool(to)
    )
    manifest = Manifest(
        1, "n", ["daily"], 0, 0, 0, "n", "1", 6, "18", "18", "d", "s", content, {}, {}, "x", "m"
    )
    return Case(Backup(directory, manifest, Record()), identity)


@pytest.fixture(params=["plain", "encrypted"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return made(tmp_path, Identity.generate() if request.param == "encrypted" else None)


def test_what_was_sealed_is_read_back(case: Case) -> None:
    """Byte by byte; the file is smaller, nobody else's to read, and its size and checksum are those on the disk."""
    content = case.backup.content
    assert case.read() == PLAIN
    assert content.stat().st_mode & 0o777 == 0o600
    manifest = case.backup.manifest
    assert manifest is not None
    assert content.stat().st_size == manifest.content.bytes < manifest.content.plain_bytes == len(PLAIN)


def test_an_empty_archive_is_one_too(tmp_path: Path) -> None:
    assert made(tmp_path, Identity.generate(), b"").read() == b""


@pytest.mark.parametrize("at", [0, 30, 200, 20_000, -30, -1])
def test_a_flipped_bit_is_found(case: Case, at: int) -> None:
    """Wherever it is, and however little of the stream it spoils."""
    data = bytearray(case.backup.content.read_bytes())
    data[at] ^= 1
    case.backup.content.write_bytes(data)
    with pytest.raises((BackupDamaged, SettingsError)) as caught:
        case.read()
    if at not in (30, 200):  # a flipped header of age's names another recipient
        assert isinstance(caught.value, BackupDamaged)


@pytest.mark.parametrize("left", [0, 1, 100, 30_000, -1])
def test_a_file_that_is_cut_short_is_found(case: Case, left: int) -> None:
    data = case.backup.content.read_bytes()
    case.backup.content.write_bytes(data[:left])
    with pytest.raises(BackupDamaged):
        case.read()


def test_what_was_added_at_the_end_is_found(case: Case) -> None:
    with case.backup.content.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BackupDamaged):
        case.read()


def test_the_file_of_another_backup_is_found(case: Case, tmp_path: Path) -> None:
    """It is whole, opens, and is not the one that the manifest is of."""
    (tmp_path / "other").mkdir()
    other = made(tmp_path / "other", case.identity, PLAIN[:-1] + b"b")
    case.backup.content.write_bytes(other.backup.content.read_bytes())
    with pytest.raises(BackupDamaged, match="checksum differs"):
        case.read()


def test_a_file_that_is_gone_is_no_empty_one(case: Case) -> None:
    case.backup.content.unlink()
    with pytest.raises(BackupDamaged, match="cannot be read"):
        case.read()


def test_another_identity_does_not_open_it(tmp_path: Path) -> None:
    """And that is no damage: the next step names the setting."""
    case = made(tmp_path, Identity.generate())
    assert can_open(case.backup, case.keys)
    for keys in ([], [Identity.generate()]):
        assert not can_open(case.backup, keys)
        with pytest.raises(SettingsError, match="BACKUP_IDENTITY_FILE"), opened(case.backup, keys) as stream:
            stream.read()


def test_a_reader_that_leaves_early_leaves_nothing_behind(case: Case) -> None:
    with opened(case.backup, case.keys) as stream:
        assert stream.read(10) == PLAIN[:10]
    assert case.read() == PLAIN


class Failing:
    """A pipe whose writer fails half-way."""

    def __init__(self) -> None:
        self.chunks = [PLAIN, PLAIN]

    def read(self, size: int = -1) -> bytes:
        if not self.chunks:
            raise RuntimeError("pg_dump ended with 1")
        return self.chunks.pop()


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_source_that_fails_is_not_the_end_of_the_stream(tmp_path: Path, encrypted: bool) -> None:
    """What it raised comes through every part."""
    to = [Identity.generate().to_public()] if encrypted else []
    with pytest.raises(RuntimeError, match="ended with 1"):
        seal(Failing(), tmp_path / "content", level=3, to=to)


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("plain", [b"small", os.urandom(200_000)])
def test_a_disk_that_takes_no_more_fails_the_seal(tmp_path: Path, encrypted: bool, plain: bytes) -> None:
    """Also where only the last few bytes find no room, which the encryption itself would not tell."""
    to = [Identity.generate().to_public()] if encrypted else []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 if len(plain) < 100 else 200_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            seal(io.BytesIO(plain), tmp_path / "content", level=3, to=to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_recipients_and_identities_are_those_of_age(tmp_path: Path) -> None:
    """Several recipients each open it; a file is read as age-keygen writes it; what is neither is named, not shown."""
    identity = Identity.generate()
    file = tmp_path / "identity.txt"
    file.write_text(f"# public key: {identity.to_public()}\n{identity}\n")
    both = f"{identity.to_public()} {Identity.generate().to_public()}"
    settings = Settings(backup_recipients=both, backup_identity_file=file)
    assert [str(one) for one in recipients(settings)] == both.split()
    assert [str(one) for one in identities(settings)] == [str(identity)]
    assert recipients(Settings(backup_recipients="none")) == recipients(Settings()) == []
    with pytest.raises(SettingsError, match="number 2") as caught:
        recipients(Settings(backup_recipients=f"{identity.to_public()} {identity}"))
    assert str(identity) not in f"{caught.value} {caught.value.next_step}"
    for wrong in ("", "# nothing\n", "something else\n"):
        file.write_text(wrong)
        with pytest.raises(SettingsError, match=r"identity\.txt"):
            identities(settings)
