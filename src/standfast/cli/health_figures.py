"""How figures of health are written: bars, shares, times, and a symbol beside every colour.

Invariant: what a colour says, a symbol or a word says too; without UTF-8 every mark of ours is ASCII.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from standfast.cli.output import duration
from standfast.health.document import Finding

STYLES = {
    "ok": "green",
    "healthy": "green",
    "info": "cyan",
    "unknown": "magenta",
    "warning": "yellow",
    "error": "red",
    "critical": "bold red",
}
_RANK = ("ok", "info", "unknown", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The marks to draw with."""

    levels: Mapping[str, str]
    arrow: str
    dot: str
    full: str
    empty: str
    steps: str
    rule: str


UNICODE = Glyphs(
    {"ok": "✓", "healthy": "✓", "info": "i", "unknown": "?", "warning": "!", "error": "✗", "critical": "✗"},
    "→",
    "·",
    "█",
    "░",
    "▁▂▃▄▅▆▇█",
    "─",
)
ASCII = Glyphs(
    {"ok": "+", "healthy": "+", "info": "i", "unknown": "?", "warning": "!", "error": "x", "critical": "x"},
    "->",
    "-",
    "#",
    ".",
    "_.-=#",
    "-",
)


class Levels:
    """How bad what was found is, by section and by code, so that figures have the colour of their finding."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self._findings = list(findings)

    def section(self, name: str) -> str:
        """The worst of a section; "ok" where nothing was found."""
        return _worst(one.level for one in self._findings if one.section == name)

    def of(self, *codes: str) -> str:
        """The worst of some codes."""
        return _worst(one.level for one in self._findings if one.code in codes)


def _worst(levels: Iterable[str]) -> str:
    return max(levels, key=_RANK.index, default="ok")


def bar(share: float, width: int, level: str, glyphs: Glyphs) -> Text:
    """`share` (0 to 1) of a line of `width` cells; anything at all fills one."""
    share = min(1.0, max(0.0, share))
    filled = round(share * width)
    filled = max(1, filled) if share > 0 else 0
    return Text.assemble(
        (glyphs.full * filled, STYLES[level]), (glyphs.empty * (width - filled), "bright_black")
    )


def spark(counts: Sequence[int], glyphs: Glyphs) -> str:
    """A step for each count, the highest one full; a count that is not zero is never invisible."""
    top, steps = max([*counts, 1]), glyphs.steps
    return "".join(steps[max(1 if count else 0, round(count / top * (len(steps) - 1)))] for count in counts)


def marked(text: str, level: str, glyphs: Glyphs) -> Text:
    """`text` in the colour of `level`, with its symbol where it is not well."""
    if level in ("ok", "info"):
        return Text(text)
    return Text(f"{text} {glyphs.levels[level]}", style=STYLES[level])


def flowed(parts: Iterable[str | Text], width: int, glyphs: Glyphs) -> Text:
    """The parts with a dot between, in lines of `width`; a line ends between two parts, not within a figure."""
    flow, used = Text(), 0
    for part in parts:
        text = part if isinstance(part, Text) else Text(part)
        if used and used + 3 + text.cell_len > width:
            flow.append("\n")
            used = 0
        elif used:
            flow.append(f" {glyphs.dot} ", style="bright_black")
            used += 3
        flow.append_text(text)
        used += text.cell_len
    return flow


def percent(share: float | None) -> str:
    """'40 %', '99.8 %'; a share below 1 is never written as 100 %."""
    if share is None:
        return "-"
    value = share * 100
    if value >= 100 or value == round(value):
        return f"{value:.0f} %"
    return f"{min(value, 99.9):.1f} %" if value >= 1 else f"{max(value, 0.1):.1f} %"


def milliseconds(value: float | None) -> str:
    """'0.42 ms', '18 ms', '1.2 s'."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s" if value < 60_000 else duration(value / 1000)
    if value == 0:
        return "0 ms"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def seconds(value: float | None) -> str:
    """As `duration`, with less than a second too."""
    if value is None:
        return "-"
    return milliseconds(value * 1000) if 0 < value < 1 else duration(value)


def ago(at: float | None, now: float | None = None) -> str:
    """'5 m 10 s ago', 'now'."""
    if at is None:
        return "never"
    age_s = (time.time() if now is None else now) - at
    return f"{duration(age_s)} ago" if age_s >= 1 else "now"


def counted(count: int, one: str, many: str | None = None) -> str:
    """'1 key', '1,204 keys'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short(count: float) -> str:
    """A count in little room: '950', '12.4 k', '1.65 M'."""
    if abs(count) < 10_000:
        return f"{count:,.0f}"
    if abs(count) < 1_000_000:
        return f"{count / 1000:.1f} k"
    return f"{count / 1_000_000:.2f} M"
