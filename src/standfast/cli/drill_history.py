"""`standfast drill list` and `show`: drills that were made, and what recovering took as last measured.

Thin: `drill.kept` and `drill.history` read; neither PostgreSQL nor a service is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from standfast.cli.context import current_settings
from standfast.cli.output import JsonOption, console, print_json
from standfast.drill.kept import KeptDrills


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group."""
    app.command("list")(list_)
    app.command("show")(show)


def list_(*, json: JsonOption = False) -> None:
    """List every drill, newest first, and what recovering took as last measured."""
    from standfast.cli.drill_view import print_drills, print_measured
    from standfast.drill.history import last_measured

    settings = current_settings()
    listing, measured = KeptDrills(settings).listing(), last_measured(settings)
    if json:
        drills = [{**msgspec.to_builtins(one), "passed": one.passed} for one in listing.records]
        for one in drills:
            del one["moments"]
        print_json(
            {"drills": drills, "damaged": listing.damaged, "last_measured": msgspec.to_builtins(measured)}
        )
    else:
        print_drills(listing.records, listing.damaged)
        print_measured(measured)


def show(
    drill: Annotated[str, typer.Argument(metavar="[ID]", help="A drill's id, from 'list'.")] = "latest",
    *,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write its reports there, too.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show a drill's record; by default the newest."""
    from standfast.cli.drill_view import print_record
    from standfast.drill.reports import write_reports

    record = KeptDrills(current_settings()).get(drill)
    paths = write_reports(record, report.expanduser().absolute()) if report else []
    if json:
        print_json({**msgspec.to_builtins(record), "passed": record.passed})
        return
    print_record(record)
    for path in paths:
        console().print(f"Written: {path}")
