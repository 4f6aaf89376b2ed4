"""`standfast restore --at`: put companies back to what they were at a second, out of the change log."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated

import typer

from standfast.authstate.company import company_id
from standfast.cli.asking import YesOption
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console
from standfast.cli.restoring import Later, print_report, shown
from standfast.errors import UsageError
from standfast.jobs.restore.from_log import LATEST, LogSource, moment
from standfast.jobs.restore.plan import Plan, Wish
from standfast.service.restore_run import Asked, restore_from


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("restore")(restore)


def restore(
    *,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="TIME",
            help="2026-11-22T10:15:30Z, an offset for Z, or 'latest': the last states there are.",
        ),
    ],
    company: Annotated[
        list[str] | None, typer.Option("--company", help="Only this company; may be given more than once.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DSN", help="Into another, empty database; its password in PGPASSWORD."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take companies from other nodes, though these live.")
    ] = False,
    replace_identity: Annotated[
        list[str] | None,
        typer.Option(
            "--replace-identity", metavar="COMPANY", help="Give up the identity it was paired with since."
        ),
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Put companies back to what they were at a second, out of the change log."""
    wanted = [company_id(one) for one in company or ()]
    source = LogSource(current_settings(), _moment(at), wanted)
    # What this node's replica knows beyond a moment of the past is just what is not wanted then.
    wish = Wish(frozenset(wanted), at == LATEST, force, frozenset(replace_identity or ()))

    with contextlib.ExitStack() as stack:
        progress = Later(stack, as_json=json)

        def agree(plan: Plan) -> bool:
            if not json:
                _print_gaps(source)
            return shown(plan, dry_run=dry_run, yes=yes, as_json=json, begin=progress.begin)

        asked = Asked(source.name, wish, to)
        report = run_async(restore_from(current_settings(), source, asked, agree, progress))
    if report is not None:
        print_report(report, as_json=json)


def _moment(text: str) -> float | None:
    if text == LATEST:
        return None
    found = moment(text)
    if found > time.time():
        raise UsageError(f"{text} is in the future", next_step="Name a moment that has passed, or 'latest'.")
    return found


def _print_gaps(source: LogSource) -> None:
    for company, (since, until) in source.gaps.items():
        console().print(
            f"{company}: what happened between {_when(since)} and {_when(until)} is not known but for its end; this is "
            "what it was at the beginning",
            style="yellow",
        )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
