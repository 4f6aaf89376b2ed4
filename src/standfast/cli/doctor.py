"""`standfast doctor`: each thing that Standfast stands on, ok or with its mend."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from standfast.cli.output import JsonOption, console, print_json


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("doctor")(doctor)


def doctor(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nothing outside this machine but PostgreSQL.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what is not ok.")] = False,
    json: JsonOption = False,
) -> None:
    """Check machine, Node.js, PostgreSQL, files and network; change nothing, and name each mend.

    Ends with 0 where all is ok, 1 with a warning, 2 where something is wrong, 3 where something could not be seen."""
    from standfast.cli.diagnosis import lines
    from standfast.logs import configure_logging
    from standfast.service.doctor.examination import examine
    from standfast.service.doctor.patient import Patient
    from standfast.settings.survey import survey_settings

    configure_logging("error")  # what libraries say of a failed look stands in the report
    report = examine(Patient(survey_settings(), offline=offline))
    if json:
        print_json(report.as_wire())
    else:
        out = console()
        for line in lines(report, width=out.width if out.is_terminal else None, quiet=quiet):
            out.print(line)
    sys.stdout.flush()
    if report.exit_code:
        raise typer.Exit(report.exit_code)
