"""A segment: one file's worth of entries of many companies, each company's in a block of its own.

    magic, length of the header, header (msgpack), SHA-256 of it, blocks, SHA-256 of everything before

The header is not encrypted (which companies, when, how far), and every block is authenticated together with it, so that
one company is read without opening the rest. Invariant: a segment is written once, whole, under its number; its header
names the checksum of the one before.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged
from standfast.jobs.changelog.entries import Entry, packed, unpacked
from standfast.jobs.changelog.sealing import Opener, Sealer, seal, unseal

MAGIC = b"SFCHANG1"
FORMAT = 1
DIGEST_BYTES = 32
_LENGTH = struct.Struct("<I")
_SEAL_BYTES = 28  # nonce and tag
_HEADER_LIMIT_BYTES = 64 * 2**20


class Block(msgspec.Struct, array_like=True):
    """Where a company's entries lie (counted from the end of the header), and what they span. `snapshot_at`: when the
    newest snapshot among them was taken. `gaps`: spans of which only the end is known."""

    offset: int
    length: int
    first_at: float
    last_at: float
    epoch: int
    last: int
    snapshot_at: float | None = None
    removed: bool = False
    gaps: list[tuple[float, float]] = []


class Header(msgspec.Struct, array_like=True):
    """`closed_at`: whatever was acknowledged by then is in this segment or an earlier one. `previous` is the checksum
    of the one before, empty in a log's first. `database`: the identity of the one that the vault's companies are in."""

    format: int
    node: str
    node_name: str
    number: int
    previous: bytes
    closed_at: float
    sealing: str
    sealed_key: bytes
    blocks: dict[str, Block]
    database: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Header).decode


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment lies: a file of its own, or a part of a pack. `closed_at` is of whole seconds, rounded up."""

    path: Path
    offset: int
    length: int
    number: int
    closed_at: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment's header, and where its blocks begin."""

    place: Place
    header: Header
    digest: bytes
    body: int


def made(
    entries: dict[Company, list[Entry]],
    sealer: Sealer,
    *,
    node: str,
    node_name: str,
    number: int,
    previous: bytes,
    closed_at: float,
    database: str = "",
) -> bytes:
    """The content of a segment's file."""
    key, sealed_key = sealer.new_key()
    header = Header(
        FORMAT, node, node_name, number, previous, closed_at, sealer.sealing, sealed_key, {}, database
    )
    blocks, offset = {}, 0
    for company, its in entries.items():
        blocks[company] = block = packed(its)
        header.blocks[company] = _spanned(its, offset, len(block) + _SEAL_BYTES)
        offset += len(block) + _SEAL_BYTES
    head = _encode(header)
    digest = hashlib.sha256(head).digest()
    sealed = [seal(key, block, digest + company.encode()) for company, block in blocks.items()]
    content = b"".join((MAGIC, _LENGTH.pack(len(head)), head, digest, *sealed))
    return content + hashlib.sha256(content).digest()


def _spanned(entries: list[Entry], offset: int, length: int) -> Block:
    snapshots = [entry for entry in entries if entry.kind == "snapshot"]
    return Block(
        offset,
        length,
        min(entry.at for entry in entries),
        max(entry.at for entry in entries),
        entries[-1].epoch,
        entries[-1].last,
        snapshots[-1].at if snapshots else None,
        entries[-1].kind == "removed",
        [(entry.since, entry.at) for entry in snapshots if entry.since],
    )


def open_segment(place: Place) -> Opened:
    """Raises `BackupDamaged` where the header is not what was written, or of a later version."""
    try:
        with place.path.open("rb") as file:
            file.seek(place.offset)
            begin = file.read(len(MAGIC) + _LENGTH.size)
            length = _header_length(begin, place)
            head = file.read(length)
            digest = file.read(DIGEST_BYTES)
    except OSError as error:
        raise BackupDamaged(f"{place.path} cannot be read: {error.strerror}") from error
    if len(digest) < DIGEST_BYTES or hashlib.sha256(head).digest() != digest:
        raise BackupDamaged(f"segment {place.number} ({place.path.name}) has a damaged header")
    try:
        header = _decode(head)
    except msgspec.MsgspecError as error:
        raise BackupDamaged(
            f"segment {place.number} ({place.path.name}) is not of this version's format",
            next_step="Use the version of Standfast that wrote it, or a later one.",
        ) from error
    if header.number != place.number:
        raise BackupDamaged(f"{place.path.name} holds segment {header.number} instead of {place.number}")
    return Opened(place, header, digest, place.offset + len(begin) + length + DIGEST_BYTES)


def _header_length(begin: bytes, place: Place) -> int:
    if len(begin) < len(MAGIC) + _LENGTH.size or not begin.startswith(MAGIC):
        raise BackupDamaged(f"segment {place.number} ({place.path.name}) is no segment of a change log")
    (length,) = _LENGTH.unpack(begin[len(MAGIC) :])
    if length > min(_HEADER_LIMIT_BYTES, place.length):
        raise BackupDamaged(f"segment {place.number} ({place.path.name}) has a damaged header")
    return int(length)


def read_entries(opened: Opened, company: Company, opener: Opener) -> list[Entry] | None:
    """The company's entries; empty where it has none there; None where no identity opens them. `BackupDamaged`."""
    block = opened.header.blocks.get(company)
    if block is None:
        return []
    key = opener.key(opened.header.sealing, opened.header.sealed_key)
    if key is None:
        return None
    try:
        with opened.place.path.open("rb") as file:
            file.seek(opened.body + block.offset)
            sealed = file.read(block.length)
    except OSError as error:
        raise BackupDamaged(f"{opened.place.path} cannot be read: {error.strerror}") from error
    return unpacked(unseal(key, sealed, opened.digest + company.encode()))


def checksum(place: Place) -> bytes:
    """The segment's checksum, by which the next one names it. `BackupDamaged` where its content does not give it."""
    try:
        with place.path.open("rb") as file:
            file.seek(place.offset)
            content = file.read(place.length)
    except OSError as error:
        raise BackupDamaged(f"{place.path} cannot be read: {error.strerror}") from error
    return checked(content, place)


def checked(content: bytes, place: Place) -> bytes:
    """As `checksum`, of what was read already."""
    found = content[-DIGEST_BYTES:]
    if len(content) != place.length or hashlib.sha256(content[:-DIGEST_BYTES]).digest() != found:
        raise BackupDamaged(f"segment {place.number} ({place.path.name}) is damaged: its checksum differs")
    return found


def write_new(path: Path, content: bytes) -> None:
    """Durable under its name when this returns, 0600. Raises `OSError`."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  # pathlib cannot open a descriptor
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
