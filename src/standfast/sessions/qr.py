"""QR codes as pictures: for terminals, PNG and SVG.

Invariant: every form shows the same symbol, with a quiet zone black on white, so that a phone can scan each.
"""

from __future__ import annotations

import io
from typing import Any, Literal

import segno

from standfast.errors import UsageError

QrFormat = Literal["png", "svg"]
BORDER_MODULES = 4  # the quiet zone that the standard asks for
TERMINAL_BORDER_MODULES = 2  # scans as well, and leaves room in a window of 80 columns
TERMINAL_STYLE = "#ffffff on #000000"  # in a light window's own colours the symbol would be inverted
MAX_SCALE = 50


def qr_png(text: str, scale: int = 6) -> bytes:
    """`text` as a PNG; `scale` is pixels a module, 1 to 50. `UsageError` where it cannot be drawn."""
    return _drawn(text, "png", scale)


def qr_svg(text: str, scale: int = 6) -> bytes:
    """`text` as an SVG document; `scale` is units a module, 1 to 50. `UsageError` where it cannot be drawn."""
    return _drawn(text, "svg", scale)


def qr_image(text: str, image_format: QrFormat, scale: int = 6) -> bytes:
    """`text` in the format named."""
    return _drawn(text, image_format, scale)


def qr_lines(text: str) -> list[str]:
    """`text` in half blocks, one string a terminal line. Blocks are light modules: to be drawn as `TERMINAL_STYLE`."""
    out = io.StringIO()
    _symbol(text).terminal(out, border=TERMINAL_BORDER_MODULES, compact=True)
    return out.getvalue().splitlines()


def _drawn(text: str, image_format: QrFormat, scale: int) -> bytes:
    if not 1 <= scale <= MAX_SCALE:
        raise UsageError(f"a QR's scale is 1 to {MAX_SCALE}")
    out = io.BytesIO()
    more: dict[str, Any] = {"xmldecl": True} if image_format == "svg" else {}
    # Without a light colour both formats are transparent, and black on a dark page cannot be scanned.
    _symbol(text).save(
        out, kind=image_format, scale=scale, border=BORDER_MODULES, dark="black", light="white", **more
    )
    return out.getvalue()


def _symbol(text: str) -> segno.QRCode:
    if not text:
        raise UsageError("there is no QR of nothing")
    try:
        return segno.make_qr(text, error="l")
    except (ValueError, segno.DataOverflowError):
        raise UsageError(f"{len(text)} characters do not fit in a QR") from None
