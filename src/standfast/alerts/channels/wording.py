"""How a note reads: what happened, since when, how bad, who is concerned, what to do.

Invariant: whatever the note says, what is made of it is whole (no cut tag or entity), within its limit, and free of
secrets; where it has to be shorter, what to do is the last to go.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from standfast.alerts.channel import Note
from standfast.alerts.channels.shown import clean, facts_of, line, shorten, tags_of

Markup = Literal["text", "html", "markdown", "telegram"]

TELEGRAM_CHARS = 4_096
_SYMBOLS = {
    "critical": "\N{LARGE RED CIRCLE}",
    "error": "\N{LARGE ORANGE CIRCLE}",
    "warning": "\N{LARGE YELLOW CIRCLE}",
    "info": "\N{LARGE BLUE CIRCLE}",
    "resolved": "\N{LARGE GREEN CIRCLE}",
}
_TITLE_CHARS = 160
_MESSAGE_CHARS = (2_000, 1_000, 500, 250, 120, 60, 30)  # tried in turn until the whole is short enough
_FACTS = 8
_DETAILS_NEEDED = 2  # company or what else is concerned, and the node
_FACT_CHARS = 200
_NEXT_STEP_CHARS = 500
_COMMAND = re.compile(r"(?<!\w)'([^'\n]+)'(?!\w)")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~])")
_DEFAULT_NEXT_STEP = "See 'standfast health' and 'standfast alerts'; docs/alerts.md says what {name} means."
_SAID_ELSEWHERE = {"company_id", "component", "operation", "fallback", "section"}
_TOLD_IN_WORDS = {"duration_s", "next_step"}  # told in words elsewhere


@dataclass(frozen=True, slots=True)
class Style:
    """How a markup writes its parts. `plain` escapes."""

    plain: Callable[[str], str]
    bold: Callable[[str], str]
    code: Callable[[str], str]
    newline: str


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


_STYLES: dict[Markup, Style] = {
    "text": Style(str, str, str, "\n"),
    "html": Style(
        lambda text: _escaped(text).replace("\n", "<br>"),
        lambda text: f"<b>{text}</b>",
        lambda text: f"<code>{_escaped(text)}</code>",
        "<br>",
    ),
    "telegram": Style(  # HTML of Telegram's kind, where a line ends as in plain text
        lambda text: _escaped(text).replace("\n", "\r\n"),
        lambda text: f"<b>{text}</b>",
        lambda text: f"<code>{_escaped(text)}</code>",
        "\r\n",
    ),
    "markdown": Style(
        lambda text: _MARKDOWN.sub(r"\\\1", text).replace("\n", "  \n"),
        lambda text: f"**{text}**",
        lambda text: f"`{text.replace('`', '')}`",
        "  \n",
    ),
}


def title(note: Note, limit: int = _TITLE_CHARS) -> str:
    """One line of plain text: symbol, how bad, what. Company ids are in the message or below it."""
    return shorten(f"{symbol(note)} {_heading(note)}: {line(note.message)}", limit)


def symbol(note: Note) -> str:
    return _SYMBOLS["resolved" if is_resolved(note) else note.level]


def is_resolved(note: Note) -> bool:
    """Whether it tells that something is over; a digest may too."""
    return "resolved" in (note.kind, note.of)


def body(note: Note, markup: Markup, limit: int) -> str:
    """What stands below a title that the service shows by itself."""
    return _fit(note, markup, limit, with_title=False)


def whole(note: Note, markup: Markup, limit: int) -> str:
    """Title and body in one."""
    return _fit(note, markup, limit, with_title=True)


def length(text: str) -> int:
    """As Telegram counts: in UTF-16 units."""
    return len(text.encode("utf-16-le", "replace")) // 2


def duration(seconds: float) -> str:
    """Such as "40 s", "3 min 12 s", "2 h 5 min", "4 d 3 h"."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    if s < 3_600:
        return _two(s, 60, "min", 1, "s")
    if s < 86_400:
        return _two(s, 3_600, "h", 60, "min")
    return _two(s, 86_400, "d", 3_600, "h")


def moment(at: float) -> str:
    """In UTC, because who reads it may sit anywhere."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large} {large_name}" + (f" {rest} {small_name}" if rest else "")


def _heading(note: Note) -> str:
    level = note.level.capitalize()
    headings = {
        "escalated": f"{level}, was {note.former_level}"
        if note.former_level
        else f"{level}, worse than before",
        "resolved": "Resolved" if note.duration_s is None else f"Resolved after {duration(note.duration_s)}",
        "reminder": f"{level}, still going on",
        "digest": "Resolved, several at once" if is_resolved(note) else f"{level}, several at once",
        "test": "Test",
    }
    return headings.get(note.kind, level)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What there is to say, cleaned once: a text that has to be shortened is put together many times."""

    heading: str
    message: str
    details: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    advice: str | None

    def title(self, limit: int) -> str:
        return shorten(f"{self.heading}: {' '.join(self.message.split())}", limit)


def _parts(note: Note) -> _Parts:
    return _Parts(
        f"{symbol(note)} {_heading(note)}",
        clean(note.message),
        list(_details(note)),
        list(_facts(note)),
        _next_step(note),
    )


def _fit(note: Note, markup: Markup, limit: int, *, with_title: bool) -> str:
    parts, style = _parts(note), _STYLES[markup]
    fitting = (text for text in _ever_shorter(parts, style, with_title) if length(text) <= limit)
    found = next(fitting, None)
    if found is not None:
        return found
    brief, chars = parts.title(limit), limit
    while chars > 0 and length(style.plain(brief)) > limit:
        chars -= max(1, chars // 10)
        brief = shorten(brief, chars)
    return style.plain(brief)


def _ever_shorter(parts: _Parts, style: Style, with_title: bool) -> Iterator[str]:
    details = parts.details
    for told in ([*details, *parts.facts], details, details[:_DETAILS_NEEDED], []):
        for chars in _MESSAGE_CHARS if len(told) < len(details) else _MESSAGE_CHARS[:4]:
            yield _render(parts, style, chars, told, with_title=with_title)


def _render(
    parts: _Parts, style: Style, message_chars: int, details: list[tuple[str, str]], *, with_title: bool
) -> str:
    """A message that the title holds whole is not said again."""
    headline = parts.title(min(_TITLE_CHARS, message_chars))
    blocks = [style.bold(style.plain(headline))] if with_title else []
    if not (with_title and headline.endswith(f": {parts.message}")):
        blocks.append(style.plain(shorten(parts.message, message_chars)))
    if details:
        lines = (f"{style.plain(name)}: {style.plain(value)}" for name, value in details)
        blocks.append(style.newline.join(lines))
    if parts.advice is not None:
        blocks.append(f"{style.bold('What to do')}: {_with_commands(parts.advice, style)}")
    return (style.newline * 2).join(blocks)


def _details(note: Note) -> Iterator[tuple[str, str]]:
    if note.company:
        yield "Company", note.company
    tags = {name: value for name, value in tags_of(note).items() if name not in _SAID_ELSEWHERE}
    others = [value if name == "subject" else f"{name} {value}" for name, value in tags.items()]
    if others:
        yield "Concerns", shorten(", ".join(others), _FACT_CHARS)
    yield "Node", line(note.node)
    yield _when(note)
    if is_resolved(note) and note.former_level:
        yield "It was", note.former_level
    if note.count > 1:
        yield "Reports", str(note.count)
    yield "Alert", line(", ".join(note.ends) or note.name)


def _when(note: Note) -> tuple[str, str]:
    if note.kind == "resolved":
        return "From", f"{moment(note.since)} to {moment(note.at)}"
    if note.at - note.since < 1:
        return "At", moment(note.at)
    return "Since", f"{moment(note.since)} ({duration(note.at - note.since)} before this was written)"


def _facts(note: Note) -> Iterator[tuple[str, str]]:
    said = {name: value for name, value in facts_of(note).items() if name not in _TOLD_IN_WORDS}
    short = [_with_unit(name, value) for name, value in said.items() if value is not None and value != ""]
    for name, value in short[:_FACTS]:
        label = line(name.replace("_", " "))
        yield label[:1].upper() + label[1:], value


def _with_unit(name: str, value: Any) -> tuple[str, str]:
    """Units ride in the names of facts; people read them behind the figure."""
    stem, _, unit = name.rpartition("_")
    if stem and isinstance(value, int | float) and not isinstance(value, bool):
        if unit == "s":
            return stem, duration(value) if value >= 60 else f"{value:g} s"
        if unit in ("ms", "bytes"):
            return stem, f"{value:,g} {unit}" if unit == "ms" else f"{value:,} bytes"
    return name, _fact(value)


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return shorten(" ".join(shown.split()), _FACT_CHARS)


def _next_step(note: Note) -> str | None:
    if note.next_step:
        return shorten(line(note.next_step), _NEXT_STEP_CHARS)
    if is_resolved(note) or note.kind == "test" or note.level == "info":
        return None
    return _DEFAULT_NEXT_STEP.format(name=line(note.name))


def _with_commands(advice: str, style: Style) -> str:
    """Commands that stand in quotes become code, which a touch copies."""
    pieces = _COMMAND.split(advice)
    if style.code is str:
        return advice
    return "".join(
        style.code(piece) if number % 2 else style.plain(piece) for number, piece in enumerate(pieces)
    )
