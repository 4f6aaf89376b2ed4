"""How every drill by command ends: its record is kept, written as reports, shown, and judged by the exit code.

Invariant: what is kept, written and printed is one and the same record; a drill that failed ends with `DrillFailed`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer

from standfast.cli.output import console, print_json
from standfast.drill import telling
from standfast.drill.kept import KeptDrills
from standfast.drill.record import DrillRecord
from standfast.errors import DrillFailed
from standfast.settings import Settings


def ended(settings: Settings, record: DrillRecord, report: Path | None, *, json: bool) -> None:
    """`report`: the directory for the written reports, if they are wanted."""
    from standfast.cli.drill_view import print_record
    from standfast.drill.reports import write_reports

    KeptDrills(settings).keep(record)
    paths = write_reports(record, report.expanduser().absolute()) if report else []
    error = None if record.passed else DrillFailed(telling.verdict(record))
    if json:
        print_json({**msgspec.to_builtins(telling.shown(record)), "passed": record.passed})
        if error is not None:
            raise typer.Exit(error.exit_code)
        return
    print_record(record)
    for path in paths:
        console().print(f"Written: {path}")
    if error is not None:
        raise error
