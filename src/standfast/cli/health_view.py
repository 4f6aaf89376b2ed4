"""The picture that `standfast health` draws: verdict, findings with what to do, and the sections.

Draws what the document says; decides nothing. Invariant: no line is wider than the terminal, and the verdict and what
to do stand first, whatever has to be left out below.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from standfast.cli.health_figures import ASCII, STYLES, UNICODE, Glyphs, Levels, counted, flowed, milliseconds
from standfast.cli.health_machine import last_lines
from standfast.cli.health_sections import Pen, Row, Section, sections
from standfast.cli.output import duration
from standfast.health.document import DatabaseSection, Finding, Health

TWO_COLUMNS_FROM = 110
LABELS_FROM = 60
LABEL_WIDTH = 10
_LEVEL_WIDTH = 8
_GAP = 3
SHOWN_OFFSET_S = 0.5


@dataclass(frozen=True, slots=True)
class HealthView:
    """A rich renderable of one document. `brief`: each section's main rows only; `note` stands at the very top."""

    health: Health
    now: float
    verbose: bool = False
    brief: bool = False
    note: Text | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = glyphs_of(console)
        width = options.max_width
        levels = Levels(self.health.findings)
        if self.note is not None:
            yield self.note
        yield self._verdict(glyphs)
        yield from self._head(glyphs, width)
        yield from _findings(self.health.findings, glyphs, width)
        yield Text()
        yield from self._sections(levels, glyphs, width)
        pen = Pen(levels, glyphs, self.now, width - LABEL_WIDTH - 2)
        yield _grid(last_lines(self.health, pen))
        if self.verbose:
            from standfast.cli.health_detail import details

            yield from details(self.health, pen)

    def _verdict(self, glyphs: Glyphs) -> Text:
        verdict = self.health.verdict
        style = STYLES[verdict]
        badge = f" {glyphs.levels[verdict]} {verdict.upper()} "
        return Text.assemble((badge, f"bold reverse {style}"), f"  {sentence(self.health)}")

    def _head(self, glyphs: Glyphs, width: int) -> Iterator[Text]:
        service, parts = self.health.service, []
        if service is not None:
            parts = [
                f"node {service.node}",
                f"standfast {service.version}",
                f"up {duration(service.uptime_s)}",
            ]
        else:
            parts = ["no service answers: measured by this command"]
        head = flowed(parts, width, glyphs)
        head.stylize("dim")
        yield head
        if self.health.database is not None:
            yield flowed(_database(self.health.database), width, glyphs)

    def _sections(self, levels: Levels, glyphs: Glyphs, width: int) -> RenderResult:
        wide = width >= TWO_COLUMNS_FROM
        column = (width - _GAP) // 2 if wide else width
        drawn = sections(self.health, Pen(levels, glyphs, self.now, column - LABEL_WIDTH - 2))
        if not wide:
            yield from self._column(drawn, levels, glyphs, column)
            return
        half = (len(drawn) + 1) // 2
        table = Table.grid(padding=(0, _GAP, 0, 0))
        table.add_column(width=column)
        table.add_column(width=column)
        table.add_row(
            *(Group(*self._column(part, levels, glyphs, column)) for part in (drawn[:half], drawn[half:]))
        )
        yield table

    def _column(
        self, drawn: list[Section], levels: Levels, glyphs: Glyphs, width: int
    ) -> Iterator[RenderableType]:
        for section, following in itertools.zip_longest(drawn, drawn[1:]):
            yield self._section(section, levels, glyphs, width)
            if not self.brief and (section.rows or following is None or following.rows):
                yield Text()

    def _section(self, section: Section, levels: Levels, glyphs: Glyphs, width: int) -> RenderableType:
        level = levels.section(section.name)
        if not section.rows and level == "ok":
            level = "info" if section.missing != "not measured" else "unknown"
        title = Text.assemble((f"{glyphs.levels[level]} ", STYLES[level]), (section.title, "bold"), " ")
        if not section.rows:
            title.append(section.missing, style="dim")
            return title
        title.append(glyphs.rule * max(0, width - title.cell_len), style="bright_black")
        rows = [row for row in section.rows if row.main or not self.brief]
        return Group(title, _grid(rows))


def glyphs_of(console: Console) -> Glyphs:
    """Those that the output's encoding has."""
    return UNICODE if console.encoding.lower().replace("-", "").startswith("utf") else ASCII


def sentence(health: Health) -> str:
    """The verdict in a sentence."""
    bad = [one for one in health.findings if one.level in ("error", "critical")]
    warnings = [one for one in health.findings if one.level == "warning"]
    blanks = [one for one in health.findings if one.level == "unknown"]
    if health.verdict == "healthy":
        return "Everything stands; nothing needs you."
    if health.verdict == "unknown":
        return "Not everything could be measured."
    parts = [counted(len(bad), "thing", "things") + " to act on now"] if bad else []
    if warnings:
        parts.append(counted(len(warnings), "warning"))
    if blanks:
        parts.append(f"{len(blanks)} not measured")
    return f"{', '.join(parts)}." if parts else "See below."


def _database(database: DatabaseSection) -> Iterator[Text]:
    style = {"online": "green", "unavailable": "bold red"}.get(database.state, "yellow")
    yield Text.assemble(f"{database.server or 'PostgreSQL'} ", (database.state, style))
    named = f"{database.server} {database.where}"
    embedded = " (embedded)" if database.embedded and "embedded" not in named else ""
    yield Text(f"{database.where}{embedded}", style="dim")
    if database.latency_ms is not None:
        yield Text(milliseconds(database.latency_ms), style="dim")
    offset_s = database.clock_offset_s
    if offset_s is not None and abs(offset_s) >= SHOWN_OFFSET_S:
        yield Text(f"its clock {abs(offset_s):.1f} s {'ahead' if offset_s > 0 else 'behind'}", style="dim")


def _findings(findings: list[Finding], glyphs: Glyphs, width: int) -> RenderResult:
    if not findings:
        return
    yield Text()
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=1)
    labels = width >= LABELS_FROM
    if labels:
        table.add_column(width=_LEVEL_WIDTH)
    table.add_column(overflow="fold")
    for finding in findings:
        style = STYLES[finding.level]
        lines = Text(finding.message)
        if finding.recommendation:
            lines.append(f"\n{glyphs.arrow} {finding.recommendation}", style="bold")
        cells = [Text(glyphs.levels[finding.level], style=style), Text(finding.level, style=style), lines]
        table.add_row(*(cells if labels else [cells[0], cells[2]]))
    yield table


def _grid(rows: list[Row]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=LABEL_WIDTH, style="dim")
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(row.label, row.figures)
    return grid
