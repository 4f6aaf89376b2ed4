"""The picture of a drill: its phases as columns, and in a lane each what happened to whom, as SVG within a page.

Invariant: it needs nothing but the page's style sheet, tells nothing that the tables beneath do not, and every text in
it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from textwrap import wrap

from standfast.drill import telling
from standfast.drill.axis import Axis, Column
from standfast.drill.record import DrillRecord, Moment

WIDTH = 1104.0
_LEFT = 150.0
_RIGHT = 16.0
_HEAD = 62.0
_LANE = 46.0
_FOOT = 34.0
_LETTER = 6.3
_SIDES = 4
_SHADES = 4
_OPEN = frozenset({"open", "connected", "paired"})
_CLOSED = frozenset(
    {"connecting", "qr", "pairing", "closed", "replaced", "logged_out", "forbidden", "refused"}
)
_SPACING = 19.0


def picture(record: DrillRecord) -> str:
    """An `<svg>` element; `record` as `telling.shown` gave it."""
    axis = Axis(record, _LEFT, WIDTH - _LEFT - _RIGHT)
    lanes = [lane for lane in _lanes(record, axis) if lane[1]]
    height = _HEAD + _LANE * len(lanes) + _FOOT
    body = [*_columns(axis, height - _FOOT)]
    for number, (name, marks) in enumerate(lanes):
        y = _HEAD + _LANE * number
        body.append(f'<line class="rule" x1="0" y1="{y:g}" x2="{WIDTH:g}" y2="{y:g}"/>')
        body.append(f'<text class="lane" x="0" y="{y + _LANE / 2 + 4:g}">{escape(_cut(name, 23))}</text>')
        body.append(f'<g transform="translate(0 {y:g})">{"".join(marks)}</g>')
    body += _times(axis, height - _FOOT)
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-labelledby="picture-title picture-text">'
        f'<title id="picture-title">Timeline of drill {escape(record.id)}</title>'
        f'<desc id="picture-text">{escape(_described(record))}</desc>{"".join(body)}</svg>'
    )


def numbered(record: DrillRecord) -> list[tuple[int, Moment]]:
    """Alerts and commands, by the number that stands in the picture."""
    moments = [one for one in record.moments if one.kind in ("alert", "command")]
    return list(enumerate(sorted(moments, key=lambda one: one.at_s), start=1))


def outage_kinds(record: DrillRecord) -> dict[str, str]:
    """The style's class for each kind of outage, in the order in which they came."""
    outages = sorted((one for one in record.moments if one.kind == "outage"), key=lambda one: one.at_s)
    kinds = dict.fromkeys(_kind(one) for one in outages)
    return {kind: f"outage kind{number % _SHADES}" for number, kind in enumerate(kinds)}


def _kind(outage: Moment) -> str:
    return outage.subject or outage.text


def _described(record: DrillRecord) -> str:
    outages = [one for one in record.moments if one.kind == "outage"]
    told = "; ".join(f"{telling.told(one)} from {telling.clock(one.at_s)}" for one in outages)
    return (
        f"{telling.verdict(record)}. {len(record.phases)} phases in {telling.clock(record.duration_s)}. "
        f"Outages of PostgreSQL: {told or 'none'}. {record.messages_sent} messages were sent, "
        f"{record.messages_lost} were lost. The tables below hold everything that is drawn here."
    )


def _lanes(record: DrillRecord, axis: Axis) -> Iterator[tuple[str, list[str]]]:
    moments = sorted(record.moments, key=lambda one: one.at_s)
    yield "PostgreSQL", _database(moments, axis, outage_kinds(record))
    restarts = [one for one in moments if one.kind == "restart"]
    noticed = [one for one in moments if one.kind == "state" and not one.subject]
    yield "service", [*(_bar("restart", one, axis, "restart") for one in restarts), *_dots(noticed, axis)]
    for name in _names(one.subject for one in moments if one.kind == "state"):
        states = [one for one in moments if (one.kind, one.subject) == ("state", name)]
        yield f"session {name}", _states(states, restarts, axis)
    exchanged = [one for one in moments if one.kind in ("sent", "received", "lost")]
    for name in _names(_side(one) for one in exchanged):
        yield f"messages, {name}", _messages([one for one in exchanged if _side(one) == name], axis)
    marks = numbered(record)
    yield "alerts", _numbers([one for one in marks if one[1].kind == "alert"], axis)
    yield "commands", _numbers([one for one in marks if one[1].kind == "command"], axis)


def _names(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(one for one in names if one))[:_SIDES]


def _side(message: Moment) -> str:
    """Whose it is: "acme to contact" is sent by acme."""
    return message.subject.split(" to ")[0]


def _columns(axis: Axis, bottom: float) -> Iterator[str]:
    for number, column in enumerate(axis.columns):
        if column.phase is None:
            continue
        shade = "band odd" if number % 2 else "band"
        yield f'<rect class="{shade}" x="{column.x:.1f}" y="0" width="{column.width:.1f}" height="{bottom:g}"/>'
        yield (
            f'<rect class="status {column.phase.status}" x="{column.x + 1:.1f}" y="0" '
            f'width="{max(1.0, column.width - 2):.1f}" height="5" rx="2"/>'
        )
        yield from _heading(column)


def _heading(column: Column) -> Iterator[str]:
    assert column.phase is not None
    x, letters = column.x + 8, int((column.width - 12) / _LETTER)
    yield f'<text class="number" x="{x:.1f}" y="22">{column.phase.number}</text>'
    lines = wrap(column.phase.name, max(4, letters), max_lines=2, placeholder="…")
    for number, line in enumerate(lines):
        yield f'<text class="phase" x="{x:.1f}" y="{37 + 14 * number:g}">{escape(line)}</text>'
    took = telling.seconds(column.phase.duration_s)
    yield f'<text class="took" x="{column.x + column.width - 8:.1f}" y="22">{escape(took)}</text>'


def _times(axis: Axis, y: float) -> Iterator[str]:
    yield f'<line class="edge" x1="{axis.left:g}" y1="{y:g}" x2="{axis.right:g}" y2="{y:g}"/>'
    for column in axis.columns:
        yield _text("time", column.x, y + 16, telling.clock(column.since_s))
    yield _text("time last", axis.right, y + 16, telling.clock(axis.columns[-1].until_s))


def _database(moments: Sequence[Moment], axis: Axis, kinds: Mapping[str, str]) -> list[str]:
    marks = []
    for one in moments:
        if one.kind == "outage":
            marks.append(_bar(kinds[_kind(one)], one, axis, _kind(one)))
        elif one.kind in ("restored", "saved"):
            x = axis.x(one.at_s)
            shape = f"M{x:.1f} 12l7 11-7 11-7-11z" if one.kind == "restored" else f"M{x - 6:.1f} 23l4 5 8-10"
            marks.append(f'<path class="{one.kind}" d="{shape}">{_hint(one)}</path>')
    return marks


def _bar(kind: str, one: Moment, axis: Axis, name: str) -> str:
    x, until = axis.x(one.at_s), axis.x(one.at_s if one.until_s is None else one.until_s)
    width = max(4.0, until - x)
    label = ""
    if width > (len(name) + 4) * _LETTER:
        label = f'<text class="in {kind}" x="{x + 7:.1f}" y="27">{escape(name)}</text>'
    bar = (
        f'<rect class="{kind}" x="{x:.1f}" y="11" width="{width:.1f}" height="24" rx="4">{_hint(one)}</rect>'
    )
    return bar + label


def _states(moments: Sequence[Moment], restarts: Sequence[Moment], axis: Axis) -> list[str]:
    """A thick line while the session is open, a thin one while it is not, which it never is amid a restart; a dot for
    whatever else was noted of it."""
    marks = []
    known = [one for one in moments if _is_open(one) is not None]
    ends = [*(axis.x(one.at_s) for one in known[1:]), axis.right]
    for one, until in zip(known, ends, strict=False):
        marks.append(_line(axis.x(one.at_s), until, "open" if _is_open(one) else "closed", one))
    for one in restarts if known else ():
        x, until = axis.x(one.at_s), axis.x(one.at_s if one.until_s is None else one.until_s)
        marks.append(f'<rect class="gap" x="{x:.1f}" y="16" width="{max(2.0, until - x):.1f}" height="14"/>')
        marks.append(_line(x, until, "closed", one))
    others = [one for one in moments if _is_open(one) is None]
    return [*marks, *_dots(others, axis)]


def _is_open(moment: Moment) -> bool | None:
    """None: the moment tells of something else."""
    word = moment.text.split(" ")[0].rstrip(",:")
    return word in _OPEN if word in _OPEN | _CLOSED else None


def _line(x: float, until: float, kind: str, one: Moment) -> str:
    y, height = (17, 12) if kind == "open" else (21, 4)
    width = max(2.0, until - x)
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}">{_hint(one)}</rect>'
    )


def _dots(moments: Sequence[Moment], axis: Axis) -> list[str]:
    return [
        f'<circle class="dot" cx="{axis.x(one.at_s):.1f}" cy="23" r="4">{_hint(one)}</circle>'
        for one in moments
    ]


def _messages(moments: Sequence[Moment], axis: Axis) -> list[str]:
    """Sent above the line, received below it, lost as a cross on it."""
    marks = [f'<line class="rule" x1="{axis.left:g}" y1="23" x2="{axis.right:g}" y2="23"/>']
    for one in moments:
        x = axis.x(one.at_s)
        if one.kind in ("sent", "received"):
            y = 9 if one.kind == "sent" else 25
            marks.append(
                f'<rect class="{one.kind}" x="{x - 1.5:.1f}" y="{y}" width="3" height="12" rx="1">{_hint(one)}</rect>'
            )
        elif one.kind == "lost":
            marks.append(f'<path class="lost" d="M{x - 6:.1f} 17l12 12m0-12l-12 12">{_hint(one)}</path>')
    return marks


def _numbers(rows: Sequence[tuple[int, Moment]], axis: Axis) -> list[str]:
    """Each where it happened, or a little later where the one before it is in the way."""
    marks, free = [], 0.0
    for number, one in rows:
        x = min(max(axis.x(one.at_s), free), axis.right - 8)
        free = x + _SPACING
        marks.append(
            f'<g class="{one.kind}"><circle cx="{x:.1f}" cy="23" r="8.5">{_hint(one)}</circle>'
            f'<text x="{x:.1f}" y="27">{number}</text></g>'
        )
    return marks


def _hint(one: Moment) -> str:
    return f"<title>{escape(f'{telling.clock(one.at_s)} {one.kind}: {telling.told(one)}')}</title>"


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:g}">{escape(text)}</text>'


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
