"""What a file is, told from its bytes, and what WhatsApp takes as which kind of message.

Invariant: a file's name, or what a server says of it, never makes it an image, a video, a sticker or a voice message.
"""

from __future__ import annotations

import mimetypes

from standfast.errors import UsageError

UNKNOWN = "application/octet-stream"
MIB = 1024 * 1024
# WhatsApp's own limits.
MAX_BYTES = {
    "image": 16 * MIB,
    "video": 16 * MIB,
    "audio": 16 * MIB,
    "voice": 16 * MIB,
    "sticker": MIB,
    "document": 100 * MIB,
}
_TAKEN: dict[str, tuple[str, ...]] = {
    "image": ("image/jpeg", "image/png", "image/webp"),
    "video": ("video/mp4", "video/3gpp", "video/quicktime"),
    "audio": ("audio/mpeg", "audio/mp4", "audio/aac", "audio/amr", "audio/ogg", "audio/ogg; codecs=opus"),
    "voice": ("audio/ogg; codecs=opus",),
    "sticker": ("image/webp",),
}
_BEGINNINGS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"ID3", "audio/mpeg"),
    (b"#!AMR", "audio/amr"),
    (b"%PDF-", "application/pdf"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
)
_BRANDS = {b"M4A ": "audio/mp4", b"M4B ": "audio/mp4", b"qt  ": "video/quicktime", b"heic": "image/heic"}
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}
# Documents that are archives inside: their name says which.
_ARCHIVES = frozenset({"application/zip", UNKNOWN})


def sniffed(head: bytes) -> str:
    """The MIME type that the first bytes of a file show; `UNKNOWN` where they show none."""
    for beginning, mime_type in _BEGINNINGS:
        if head.startswith(beginning):
            return mime_type
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return _BRANDS.get(brand, "video/3gpp" if brand.startswith(b"3g") else "video/mp4")
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], UNKNOWN)
    if head.startswith(b"OggS"):
        return "audio/ogg; codecs=opus" if b"OpusHead" in head[:64] else "audio/ogg"
    return _sniffed_audio(head)


def type_for(kind: str, head: bytes, file_name: str | None) -> str:
    """The MIME type to send a file as `kind` with. Raises `UsageError` where WhatsApp would not show it as that."""
    found = sniffed(head)
    if kind == "document":
        named = mimetypes.guess_type(file_name or "")[0]
        return named or UNKNOWN if found in _ARCHIVES else found
    if found in _TAKEN[kind]:
        return found
    what = "no file of a known type" if found == UNKNOWN else f"a file of type {found}"
    raise UsageError(
        f"{what} cannot be sent as {kind}",
        next_step=f"Send one of {', '.join(_TAKEN[kind])}, or send it as a document.",
    )


def kind_of(head: bytes) -> str:
    """The kind of message that a file is best sent as."""
    found = sniffed(head)
    return next((kind for kind in ("image", "video", "voice", "audio") if found in _TAKEN[kind]), "document")


def _sniffed_audio(head: bytes) -> str:
    if len(head) > 1 and head[0] == 0xFF:
        if head[1] & 0xF6 == 0xF0:
            return "audio/aac"
        if head[1] & 0xE0 == 0xE0:
            return "audio/mpeg"
    return UNKNOWN
