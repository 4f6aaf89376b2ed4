"""What a file is, told from its bytes."""

from __future__ import annotations

import pytest

from standfast.errors import UsageError
from standfast.messaging.file_types import UNKNOWN, sniffed, type_for
from tests import files

SNIFFED = [
    (files.png(), "image/png"),
    (b"\xff\xd8\xff\xe0", "image/jpeg"),
    (files.webp(), "image/webp"),
    (b"GIF89a", "image/gif"),
    (files.mp4(), "video/mp4"),
    (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
    (b"\x00\x00\x00\x14ftyp3gp5", "video/3gpp"),
    (b"\x00\x00\x00\x14ftypM4A ", "audio/mp4"),
    (files.mp3(), "audio/mpeg"),
    (b"\xff\xfb\x90\x00", "audio/mpeg"),
    (b"\xff\xf1\x50\x80", "audio/aac"),
    (b"#!AMR\n", "audio/amr"),
    (files.opus(), "audio/ogg; codecs=opus"),
    (b"OggS" + bytes(60), "audio/ogg"),
    (b"RIFF\x00\x00\x00\x00WAVE", "audio/wav"),
    (files.pdf(10), "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"plain text", UNKNOWN),
    (b"", UNKNOWN),
]


@pytest.mark.parametrize(("head", "mime_type"), SNIFFED, ids=[kind for _, kind in SNIFFED])
def test_a_type_is_told_by_the_first_bytes(head: bytes, mime_type: str) -> None:
    """Whatever the file is called."""
    assert sniffed(head[:512]) == mime_type


def test_a_document_is_named_by_its_bytes_first(subtests: pytest.Subtests) -> None:
    """Its name says what only a name can say."""
    cases = [
        (b"plain text", "a.txt", "text/plain"),
        (b"PK\x03\x04", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"PK\x03\x04", "a", UNKNOWN),
        (files.pdf(10), "a.exe", "application/pdf"),
        (b"?", None, UNKNOWN),
    ]
    for head, name, mime_type in cases:
        with subtests.test(name):
            assert type_for("document", head, name) == mime_type


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("image", files.mp4()),
        ("image", b"GIF89a"),
        ("image", b"<svg>"),
        ("video", files.png()),
        ("audio", files.mp4()),
        ("voice", files.mp3()),
        ("voice", b"OggS" + bytes(60)),
        ("sticker", files.png()),
    ],
    ids=lambda part: part if isinstance(part, str) else "bytes",
)
def test_what_whatsapp_would_not_show_is_refused(kind: str, head: bytes) -> None:
    """With what can be sent as that."""
    with pytest.raises(UsageError, match=f"as {kind}"):
        type_for(kind, head, "a.png")
