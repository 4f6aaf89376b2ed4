"""Figures as findings say them.

Invariant: short, with a unit, and never more exact than what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

_SPANS = ((172_800.0, 86_400.0, "d"), (7_200.0, 3_600.0, "h"), (120.0, 60.0, "min"))
_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
NAMED = 3


def span(seconds: float) -> str:
    """ "8 s", "12 min", "3.5 h", "9 d"."""
    for above, unit_s, unit in _SPANS:
        if seconds >= above:
            return f"{round(seconds / unit_s, 1 if unit == 'h' else None):g} {unit}"
    return f"{seconds:.0f} s"


def size(count_bytes: float) -> str:
    """ "1.4 GiB", "230 MiB"."""
    for unit_bytes, unit in _SIZES:
        if count_bytes >= unit_bytes:
            value = count_bytes / unit_bytes
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count_bytes:.0f} bytes"


def names(companies: Sequence[str], named: int = NAMED) -> str:
    """ "acme, beta and 7 more"."""
    if len(companies) <= named + 1:
        return ", ".join(companies)
    return f"{', '.join(companies[:named])} and {len(companies) - named} more"
