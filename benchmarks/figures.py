"""Figures: medians over rounds, percentiles within one, and the tables that show them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Run = Mapping[str, Any]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed; 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def median(runs: Iterable[Run], figure: str) -> float:
    """The median of one figure over the rounds."""
    return float(statistics.median(run[figure] for run in runs))


def summary(runs: Sequence[Run], figures: Sequence[str]) -> dict[str, Any]:
    """Medians of those figures that the runs have; of the first, each run's value too."""
    medians = {name: significant(median(runs, name)) for name in figures if name in runs[0]}
    return {**medians, "runs": [significant(run[figures[0]]) for run in runs]}


def significant(value: float, digits: int = 4) -> float:
    """The value with as many digits as a measurement has."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def ratio(value: float, reference: float) -> float:
    return significant(value / reference, 3) if reference else 0.0


def show(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table whose first column names and whose others are figures."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    console.print(table)


def shown(cell: object) -> str:
    """A figure as a reader wants it: thousands apart, no digits that mean nothing."""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return "" if cell is None else str(cell)
    if abs(cell) >= 100 or cell == int(cell):
        return f"{cell:,.0f}"
    return f"{cell:.3g}"


def show_aims(console: Console, aims: Mapping[str, tuple[float, float]]) -> None:
    """Each aim with what was reached: (at least, reached)."""
    for name, (at_least, reached) in aims.items():
        met = "met" if reached >= at_least else "[bold]not met[/bold]"
        console.print(f"{name}: {shown(reached)}, aim at least {shown(at_least)}: {met}")
