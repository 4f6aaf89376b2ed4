"""QR codes as pictures."""

import struct
from xml.etree import ElementTree

import pytest

from standfast.errors import UsageError
from standfast.sessions.qr import qr_image, qr_lines, qr_png, qr_svg

LINK = "https://wa.me/settings/linked_devices#2@" + "aB3/" * 50 + ",k,i,s"


def test_a_png_is_as_large_as_its_scale_says() -> None:
    """A valid PNG header; twice the scale is twice the width."""
    widths = []
    for scale in (3, 6):
        png = qr_png(LINK, scale)
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        widths.append(struct.unpack(">I", png[16:20])[0])
    assert widths[1] == 2 * widths[0]


def test_an_svg_is_a_document_with_a_light_ground() -> None:
    """It parses, and is not see-through: black on a dark page could not be scanned."""
    svg = qr_svg(LINK, 4)
    assert svg.startswith(b"<?xml")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert b"#fff" in svg


def test_the_terminals_qr_of_a_real_length_fits_80_columns() -> None:
    """What WhatsApp's links need is not wrapped in the smallest usual window."""
    lines = qr_lines(LINK)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= 80


def test_the_format_may_be_named() -> None:
    """Both forms by name are the same as by function."""
    assert qr_image(LINK, "png", 3) == qr_png(LINK, 3)
    assert qr_image(LINK, "svg", 3) == qr_svg(LINK, 3)


@pytest.mark.parametrize(("text", "scale"), [(LINK, 0), (LINK, 51), ("x" * 3000, 6), ("", 6)])
def test_what_cannot_be_drawn_is_refused(text: str, scale: int) -> None:
    """A scale that makes no picture or too large a one, and a text that is too long or empty."""
    with pytest.raises(UsageError):
        qr_png(text, scale)
