"""`standfast drill`: an outage rehearsed; `list` and `show` tell of those that were.

Thin: the drills are in `standfast.drill`, the other commands in modules of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from standfast.cli import drill_history
from standfast.cli.asking import YesOption
from standfast.cli.output import JsonOption
from standfast.drill.plan import KINDS
from standfast.errors import UsageError

app = typer.Typer(
    name="drill",
    help="Rehearse an outage of PostgreSQL; 'list' and 'show' tell of drills that were made.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    drill_history.register(app)
    parent.add_typer(app)


@app.callback()
def drill(
    ctx: typer.Context,
    *,
    fast: Annotated[
        bool, typer.Option("--fast", help="Scale clock settings down: a minute. The report says so.")
    ] = False,
    phase: Annotated[
        list[int] | None, typer.Option("--phase", help="Only this phase, 2 to 6; may be given again.")
    ] = None,
    kinds: Annotated[
        str | None, typer.Option("--kinds", help="refused,dns,hung,readonly, or some; the long one first.")
    ] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help="On the running installation, for one test company alone; else on parts of its own.",
        ),
    ] = False,
    company: Annotated[
        str | None,
        typer.Option(metavar="COMPANY", help="The test company (default: STANDFAST_DRILL_COMPANY)."),
    ] = None,
    contact: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER_OR_GROUP", help="Who gets the messages (default: the company's own chat)."
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.05, max=30, help="With --here: how long the outage is rehearsed.")
    ] = 3.0,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write Markdown, JSON and HTML there.")
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Rehearse an outage of PostgreSQL. Exit code 33 where something does not hold."""
    if ctx.invoked_subcommand is not None:
        return
    if not here:
        if company or contact:
            raise UsageError("--company and --contact are for --here")
        from standfast.cli.drill_apart import rehearse_apart

        rehearse_apart(kinds or ",".join(KINDS), phase, report, fast=fast, yes=yes, json=json)
        return
    if fast or phase or kinds:
        raise UsageError("--fast, --phase and --kinds are not for --here", next_step="See: --minutes")
    from standfast.cli.drill_here import rehearse_here

    rehearse_here(company, contact, minutes, report, yes=yes, json=json)
