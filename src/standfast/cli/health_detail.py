"""What `standfast health --verbose` adds: the samples, statements and sessions behind the figures.

Invariant: tables of at most the ten newest or worst each (sessions: fifty), and none that would be empty.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from standfast.cli.health_figures import STYLES, ago, milliseconds, percent, seconds, short
from standfast.cli.health_sections import Pen
from standfast.cli.output import duration
from standfast.health.document import (
    Health,
    KeySection,
    PoolSection,
    QueryRecord,
    QuerySection,
    SessionRow,
    VaultSection,
)

_SHOWN = 10
ALL_COLUMNS_FROM = 50


def details(health: Health, pen: Pen) -> Iterator[RenderableType]:
    """The tables, each with its title; where there is little room with fewer columns."""
    if health.pool is not None:
        yield from _pool(health.pool, pen)
    if health.queries is not None:
        yield from _queries(health.queries, pen)
    if health.keys is not None:
        yield from _keys(health.keys, pen)
    if health.vault is not None:
        yield from _vault(health.vault, pen)
    if health.sessions is not None:
        yield from _sessions(health.sessions.troubled, pen)
    if health.alerts is not None:
        rows = [
            (_clock(one.since), one.level, str(one.count), one.name, one.company or "", one.message)
            for one in health.alerts.open[:_SHOWN]
        ]
        yield from _table(
            pen, "Open alerts", ("since", "~level", "~>count", "alert", "~company", "what"), rows
        )


def _pool(pool: PoolSection, pen: Pen) -> Iterator[RenderableType]:
    rows = [
        (
            _clock(one.at),
            percent(one.usage),
            str(one.active),
            str(one.idle),
            str(one.waiting),
            str(one.size),
        )
        for one in reversed(pool.recent[-_SHOWN:])
    ]
    yield from _table(pen, "Pool snapshots", ("at", ">usage", ">active", ">idle", ">waiting", ">size"), rows)
    holders = [(one.name, seconds(one.held_s)) for one in pool.holders[:_SHOWN]]
    yield from _table(pen, "Connections in use", ("by", ">for"), holders)


def _queries(queries: QuerySection, pen: Pen) -> Iterator[RenderableType]:
    columns = ("at", ">took", "~>waited", "~>rows", "~>retries", "statement", "outcome")
    yield from _table(pen, "Slow statements", columns, _records(queries.slow))
    yield from _table(pen, "Failed statements", columns, _records(queries.failed))
    rows = [
        (
            one.name,
            short(one.count),
            milliseconds(one.average_ms),
            milliseconds(one.p95_ms),
            f"{one.failed:,}",
        )
        for one in queries.statements[:_SHOWN]
    ]
    yield from _table(pen, "Statements", ("statement", ">count", ">average", ">P95", ">failed"), rows)


def _records(records: Sequence[QueryRecord]) -> list[tuple[str, ...]]:
    return [
        (
            _clock(one.at),
            milliseconds(one.duration_ms),
            milliseconds(one.waited_ms),
            f"{one.rows:,}",
            str(one.retries),
            one.name,
            one.outcome,
        )
        for one in reversed(records[-_SHOWN:])
    ]


def _keys(keys: KeySection, pen: Pen) -> Iterator[RenderableType]:
    total = max(1, keys.keys)
    types = [(name, f"{count:,}", percent(count / total)) for name, count in keys.types.items()]
    yield from _table(pen, "Keys by type", ("type", ">keys", ">share"), types)
    companies = [(one.company, f"{one.keys:,}", f"{one.expired:,}") for one in keys.companies[:_SHOWN]]
    yield from _table(pen, "Companies with the most keys", ("company", ">keys", ">expired"), companies)


def _vault(vault: VaultSection, pen: Pen) -> Iterator[RenderableType]:
    rows = [
        (
            _clock(one.began, day=True),
            duration(one.duration_s),
            "goes on" if one.ended is None else ago(one.ended, pen.now),
            f"{one.batches:,}",
            one.cause or "",
        )
        for one in reversed(vault.outages[-_SHOWN:])
    ]
    yield from _table(pen, "Outages", ("began", ">took", "~>ended", "~>batches", "cause"), rows)


def _sessions(rows: Sequence[SessionRow], pen: Pen) -> Iterator[RenderableType]:
    told = [
        (
            row.company,
            row.state,
            row.verdict,
            seconds(row.since_s),
            seconds(row.last_message_age_s),
            ". ".join(part for part in (row.reason, row.next_step) if part),
        )
        for row in rows
    ]
    columns = ("company", "state", "~verdict", ">for", "~>last message", "why, and what to do")
    yield from _table(pen, "Sessions in trouble", columns, told)


def _table(
    pen: Pen, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> Iterator[RenderableType]:
    """Columns that begin with '>' are figures; those that begin with '~' are left out where there is little room."""
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    kept = [
        number
        for number, column in enumerate(columns)
        if pen.width >= ALL_COLUMNS_FROM or not column.startswith("~")
    ]
    for column in (columns[number].removeprefix("~") for number in kept):
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right or column in ("at", "since", "began"),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in (row[number] for number in kept)))
    yield Text()
    yield Text(title, style="bold")
    yield table


def _clock(at: float, *, day: bool = False) -> str:
    return time.strftime("%m-%d %H:%M:%S" if day else "%H:%M:%S", time.localtime(at))
