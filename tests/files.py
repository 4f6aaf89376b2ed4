"""Small made-up files of real types."""

from __future__ import annotations

import os
import struct
import zlib


def png(width: int = 40, height: int = 30) -> bytes:
    """A picture that an image library can read."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + os.urandom(width * 3) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp() -> bytes:
    """What begins like a sticker."""
    return b"RIFF" + struct.pack("<I", 1_004) + b"WEBP" + os.urandom(1_000)


def mp4() -> bytes:
    """What begins like a film."""
    return b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom" + os.urandom(50_000)


def mp3() -> bytes:
    """What begins like music."""
    return b"ID3\x04\x00\x00\x00\x00\x00\x00" + os.urandom(20_000)


def opus() -> bytes:
    """What begins like a voice message."""
    page = b"OggS\x00\x02" + bytes(8) + b"\x01\x00\x00\x00" + bytes(8) + b"\x01\x13"
    return page + b"OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00" + os.urandom(5_000)


def pdf(size_bytes: int = 3_000_000) -> bytes:
    """What begins like a PDF, and is larger than one piece of anything."""
    return b"%PDF-1.7\n" + os.urandom(size_bytes)
