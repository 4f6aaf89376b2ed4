"""A drill's report in Markdown, which is to be read raw as well as rendered.

Invariant: no text of the record can end a cell, a block or begin markup of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from standfast.drill import telling
from standfast.drill.record import Criterion, DrillRecord

_MARKUP = re.compile(r"[\\|`*\[\]~]|<(?! )|(?<! )>|(?<!\w)_|_(?!\w)")


def markdown(record: DrillRecord) -> str:
    """The whole report; `record` as `telling.shown` gave it."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: DrillRecord) -> Iterator[str]:
    yield f"# Drill {_plain(record.id)}"
    yield f"\n**{_plain(telling.verdict(record))}.**\n"
    for failure in telling.failures(record):
        yield f"- {_plain(failure)}"
    yield from _table(("drill", ""), telling.facts(record))
    yield "\n## Figures"
    yield from _table(("figure", "measured"), telling.figures(record))
    yield "\n## Acceptance"
    yield from _criteria(record.acceptance)
    yield "\n## Performance"
    yield from _criteria(record.performance)
    yield "\n## Phases"
    yield from _table(
        ("phase", "from, to", "status", "why"),
        [
            (
                f"{phase.number} {phase.name}",
                telling.phase_time(phase),
                telling.MARKS[phase.status],
                phase.why,
            )
            for phase in record.phases
        ],
    )
    if record.scaled:
        yield "\n## Scaled settings"
        yield from _table(("setting", "in full", "here"), telling.scaled(record))
    yield "\n## What happened\n"
    yield "```text"
    yield from _story(record)
    yield "```"


def _criteria(rows: Sequence[Criterion]) -> Iterator[str]:
    if not rows:
        yield "\nNothing was judged."
        return
    legacy = any(row.legacy for row in rows)
    head = ("criterion", "target", "actual", *(("legacy",) if legacy else ()), "phase", "status")
    yield from _table(
        head,
        [
            (
                row.name,
                row.target,
                telling.criterion(row),
                *((row.legacy,) if legacy else ()),
                str(row.phase),
                telling.MARKS[row.status],
            )
            for row in rows
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as what stands in them, so that they can be read raw."""
    cells = [tuple(head), *(tuple(_plain(cell) for cell in row) for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    yield ""
    for number, row in enumerate(cells):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _story(record: DrillRecord) -> Iterator[str]:
    lines = telling.story(record)
    width = max((len(kind) for _, kind, _ in lines), default=0)
    for at_s, kind, text in lines:
        indent = "" if kind == "phase" else "  "
        yield f"{telling.clock(at_s):>6}  {kind.ljust(width)}  {indent}{text}".replace("`", "'").rstrip()


def _plain(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found[0]}", text)
