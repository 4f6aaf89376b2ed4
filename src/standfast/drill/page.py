"""A drill's report as one HTML page: nothing is fetched, no script is run, light and dark as the reader has it.

Invariant: every text of the record is escaped; what the picture shows stands in a table too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files

from standfast.drill import telling
from standfast.drill.picture import numbered, outage_kinds, picture
from standfast.drill.record import Criterion, DrillRecord

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_KEY = (
    ("restored", "PostgreSQL is back"),
    ("saved", "the journal is carried over"),
    ("restart", "a restart"),
    ("open", "session open"),
    ("closed", "session not open"),
    ("dot", "something noted"),
    ("sent", "sent (above)"),
    ("received", "received (below)"),
    ("lost", "lost"),
)


def page(record: DrillRecord) -> str:
    """The whole document; `record` as `telling.shown` gave it."""
    style = files("standfast.drill").joinpath("report.css").read_text(encoding="utf-8")
    outcome = "pass" if record.passed else "fail"
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>Drill {escape(record.id)}: {escape(telling.verdict(record))}</title>",
            f"<style>\n{style}</style>\n</head>\n<body>\n<main>",
            *_head(record, outcome),
            *_timeline(record),
            *_judged("Acceptance", record.acceptance),
            *_judged("Performance", record.performance),
            *_phases(record),
            *_settings(record),
            *_story(record),
            "</main>\n</body>\n</html>\n",
        )
    )


def _head(record: DrillRecord, outcome: str) -> Iterator[str]:
    yield f'<header class="{outcome}"><p class="eyebrow">Standfast drill {escape(record.id)}</p>'
    yield f"<h1>{escape(telling.verdict(record))}</h1>"
    if failed := telling.failures(record):
        yield "<ul>" + "".join(f"<li>{escape(one)}</li>" for one in failed) + "</ul>"
    if record.kind == "fast":
        yield '<p class="remark">Clock settings were scaled down: these times are not those of a full drill.</p>'
    yield "</header>"
    yield '<dl class="figures">'
    for name, value in telling.figures(record):
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield '</dl>\n<dl class="facts">'
    for name, value in telling.facts(record):
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    yield "</dl>"


def _timeline(record: DrillRecord) -> Iterator[str]:
    yield '<section aria-labelledby="timeline"><h2 id="timeline">Timeline</h2>\n<figure>'
    yield f'<div class="wide">{picture(record)}</div>'
    yield '<figcaption><ul class="key">'
    away = [(kind, f"PostgreSQL is away: {name}") for name, kind in outage_kinds(record).items()]
    yield "".join(f'<li><i class="{kind}"></i>{escape(name)}</li>' for kind, name in (*away, *_KEY))
    yield "</ul>Each phase has a column of its own; time runs evenly within a column, not across columns.</figcaption>"
    yield "</figure>"
    marks = numbered(record)
    for kind, name in (("alert", "Alerts"), ("command", "Commands")):
        if rows := [(number, one) for number, one in marks if one.kind == kind]:
            yield f'<h3>{name}</h3><ol class="marks {kind}">'
            for number, one in rows:
                yield (
                    f'<li value="{number}"><span class="at">{telling.clock(one.at_s)}</span> '
                    f"{escape(telling.told(one))}</li>"
                )
            yield "</ol>"
    yield "</section>"


def _judged(name: str, rows: Sequence[Criterion]) -> Iterator[str]:
    yield f'<section aria-labelledby="{name}"><h2 id="{name}">{name}</h2>'
    if not rows:
        yield "<p>Nothing was judged.</p></section>"
        return
    legacy = any(row.legacy for row in rows)
    head = ["criterion", "target", "actual", *(["legacy"] if legacy else []), "phase", "status"]
    yield from _table(head, [_cells(row, legacy=legacy) for row in rows])
    yield "</section>"


def _cells(row: Criterion, *, legacy: bool) -> list[str]:
    cells = [escape(row.name), escape(row.target), _actual(row)]
    if legacy:
        cells.append(escape(row.legacy))
    return [*cells, str(row.phase), f'<b class="{row.status}">{telling.MARKS[row.status]}</b>']


def _actual(row: Criterion) -> str:
    why = f" <small>{escape(row.why)}</small>" if row.why else ""
    return f"{escape(row.actual or 'not tried')}{why}"


def _phases(record: DrillRecord) -> Iterator[str]:
    yield '<section aria-labelledby="phases"><h2 id="phases">Phases</h2>'
    yield from _table(
        ["phase", "from, to", "status"],
        [
            [
                escape(f"{phase.number} {phase.name}"),
                telling.phase_time(phase),
                f'<b class="{phase.status}">{telling.MARKS[phase.status]}</b>'
                + (f" <small>{escape(phase.why)}</small>" if phase.why else ""),
            ]
            for phase in record.phases
        ],
    )
    yield "</section>"


def _settings(record: DrillRecord) -> Iterator[str]:
    if record.scaled:
        yield '<section aria-labelledby="scaled"><h2 id="scaled">Scaled settings</h2>'
        yield from _table(
            ["setting", "in full", "here"],
            [[escape(cell) for cell in row] for row in telling.scaled(record)],
        )
        yield "</section>"


def _story(record: DrillRecord) -> Iterator[str]:
    yield '<section aria-labelledby="story"><h2 id="story">What happened</h2>'
    yield "<details><summary>Every moment, in order</summary>"
    rows = sorted(record.moments, key=lambda one: one.at_s)
    yield from _table(
        ["time", "what", ""],
        [
            [f"{telling.clock(one.at_s)}.{int(one.at_s * 10) % 10}", one.kind, escape(telling.told(one))]
            for one in rows
        ],
    )
    yield "</details></section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """`rows` are HTML by now."""
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f'<th scope="col">{name}</th>' for name in head) + "</tr></thead><tbody>"
    for row in rows:
        first, *others = row
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        yield f'<tr><th scope="row">{first}</th>{cells}</tr>'
    yield "</tbody></table></div>"
