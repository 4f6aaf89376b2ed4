"""How the doctor's report is told to people: groups of lines, and under each that is not ok what mends it.

Draws a `Report`; decides nothing. Invariant: what is to be pasted stands on a line of its own and is never broken,
though it be longer than the terminal is wide.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.text import Text

from standfast.service.doctor.results import Outcome, Report, Result

SYMBOLS: dict[Outcome, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "wrong": ("✗", "bold red"),
    "unknown": ("?", "magenta"),
    "skipped": ("-", "dim"),
}
_WORDS: dict[Outcome, str] = {"warning": "warning", "wrong": "wrong", "unknown": "unknown"}
_SUBJECT_WIDTH = 18
_LEAST_WIDTH = 40
_INDENT = "  "


def lines(report: Report, *, width: int | None, quiet: bool = False) -> Iterator[Text]:
    """`width` None: as long as they are, for a file or a pipe. `quiet`: only what is not ok."""
    shown = [one for one in report.results if not quiet or one.outcome in _WORDS]
    group = None
    for result in shown:
        if result.group != group:
            if group is not None:
                yield Text()
            group = result.group
            yield Text(group, style="bold")
        yield from _told(result, width)
    if shown:
        yield Text()
    yield _sum(report)


def _told(result: Result, width: int | None) -> Iterator[Text]:
    symbol, style = SYMBOLS[result.outcome]
    subject = f"{result.subject:<{_SUBJECT_WIDTH}}"
    head = f"{_INDENT}{symbol} {subject} "
    column = len(f"{_INDENT}x {' ' * _SUBJECT_WIDTH} ")
    for number, part in enumerate(_wrapped(result.message, width, column, len(head))):
        line = Text()
        if number == 0:
            line.append(f"{_INDENT}{symbol}", style=style).append(f" {subject} ")
        else:
            line.append(" " * column)
        yield line.append(part, style="dim" if result.outcome == "skipped" else "")
    if result.mend and result.outcome in _WORDS:
        for step in result.mend.splitlines():
            is_words = step.endswith((".", ":"))
            parts = _wrapped(step, width, column + 2, column + 2) if is_words else [step]
            for number, part in enumerate(parts):
                yield Text(" " * column + ("→ " if number == 0 else "  ")).append(part, style="cyan")


def _wrapped(text: str, width: int | None, column: int, first: int) -> list[str]:
    """The text's lines, the first of which begins at `first` and the others at `column`."""
    if width is None:
        return [text]
    room = max(_LEAST_WIDTH, width) - column
    filler = " " * max(0, first - column)
    wrapped = textwrap.wrap(
        filler + text, room, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return [part.lstrip() if number == 0 else part for number, part in enumerate(wrapped or [""])]


def _sum(report: Report) -> Text:
    good = report.count("ok")
    parts = [f"{report.count(outcome)} {word}" for outcome, word in _WORDS.items() if report.count(outcome)]
    outcome = report.outcome
    text = Text(f"{good} ok" + "".join(f", {part}" for part in parts), style=SYMBOLS[outcome][1])
    return text.append(f"  ({report.took_s:.1f} s)", style="dim")
