"""A drill's record on the terminal: the verdict first, then the figures, then the tables.

Invariant: it fits 80 columns and tells what the written reports tell; nothing here judges.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from standfast.cli.output import console
from standfast.drill import telling
from standfast.drill.history import Measured
from standfast.drill.record import Criterion, DrillRecord, Status

_STYLES: dict[Status, str] = {"pass": "green", "fail": "bold red", "skipped": "dim"}


def print_record(record: DrillRecord) -> None:
    """To stdout."""
    record, out = telling.shown(record), console(wraps=True)
    out.print(Text(telling.verdict(record), style="bold green" if record.passed else "bold red"))
    for failure in telling.failures(record):
        out.print(Text(f"  {failure}", style="red"))
    if record.kind == "fast":
        out.print(
            Text("Clock settings were scaled down: these are not the times of a full drill.", style="yellow")
        )
    out.print()
    _print_pairs(out, [("drill", record.id), *telling.facts(record), *telling.figures(record)])
    _print_criteria(out, "Acceptance", record.acceptance)
    _print_criteria(out, "Performance", record.performance)
    _print_phases(out, record)


def print_drills(records: Sequence[DrillRecord], damaged: Sequence[str]) -> None:
    """The history, newest first."""
    out = console()
    if not records:
        out.print("There was no drill yet. Make one: standfast drill", style="yellow")
    else:
        table = _table("drill", "when", "sort", "took", "restart", "lost", "outcome")
        for record in records:
            sort = "here" if record.here else record.kind
            table.add_row(
                record.id,
                telling.utc(record.started_at)[:16],
                sort,
                telling.clock(record.duration_s),
                "" if record.rto_s is None else telling.seconds(record.rto_s),
                f"{record.messages_lost:,}",
                Text("passed", style="green") if record.passed else Text("FAILED", style="bold red"),
            )
        out.print(table)
        out.print("See one with: standfast drill show ID", style="dim")
    for name in damaged:
        out.print(f"{name} cannot be read: move it aside", style="yellow")


def print_measured(rows: Sequence[Measured]) -> None:
    """What recovering took when it was last tried."""
    out = console()
    out.print("\nRecovering, as last measured", style="bold")
    table = _table("disaster", "RTO", "RPO", "lost", "measured by")
    for one in rows:
        known = one.is_known
        table.add_row(
            one.disaster,
            telling.seconds(one.rto_s) if known else "",
            telling.seconds(one.rpo_s) if known and one.rpo_s is not None else "",
            "" if one.messages_lost is None else f"{one.messages_lost:,}",
            Text(one.by, style="" if known else "yellow", overflow="fold"),
        )
    out.print(table)


def _print_pairs(out: Console, rows: Sequence[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", max_width=26)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    out.print(table)


def _print_criteria(out: Console, name: str, rows: Sequence[Criterion]) -> None:
    if not rows:
        return
    out.print(f"\n{name}", style="bold")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("criterion", overflow="fold", ratio=5)
    table.add_column("target", overflow="fold", ratio=4)
    table.add_column("actual", overflow="fold", ratio=5)
    legacy = any(row.legacy for row in rows)
    if legacy:
        table.add_column("legacy", overflow="fold", max_width=8)
    table.add_column("status", no_wrap=True, min_width=7)
    for row in rows:
        cells = [Text(row.name), Text(row.target), Text(telling.criterion(row))]
        if legacy:
            cells.append(Text(row.legacy))
        table.add_row(*cells, Text(telling.MARKS[row.status], style=_STYLES[row.status]))
    out.print(table)


def _print_phases(out: Console, record: DrillRecord) -> None:
    out.print("\nPhases", style="bold")
    table = _table("phase", "from, to", "status", "")
    table.columns[-1].no_wrap = False
    for phase in record.phases:
        table.add_row(
            Text(f"{phase.number} {phase.name}"),
            telling.phase_time(phase),
            Text(telling.MARKS[phase.status], style=_STYLES[phase.status]),
            Text(phase.why, overflow="fold"),
        )
    out.print(table)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table
