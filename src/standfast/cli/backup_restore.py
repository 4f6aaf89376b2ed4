"""`standfast backup restore`: put back what a backup holds.

Thin: `jobs.restore` plans and does it; here the plan is shown, and a person asked.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Annotated

import typer

from standfast.cli.asking import YesOption
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption
from standfast.cli.restoring import Later, agreed, print_report, shown
from standfast.errors import UsageError
from standfast.jobs.restore.plan import Wish
from standfast.jobs.restore.restore import RestoreReport
from standfast.service.restore_run import Asked, abandon_unfinished, restore_backup, resume_unfinished


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group."""
    app.command("restore")(restore)


def restore(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A backup's name, from 'list'; 'latest': the newest."),
    ] = None,
    *,
    company: Annotated[
        list[str] | None, typer.Option("--company", help="Only this company; may be given more than once.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DSN", help="Into another, empty database; its password in PGPASSWORD."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")] = False,
    no_replay: Annotated[
        bool,
        typer.Option("--no-replay", help="The backup's state, even where this node knows what came later."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take companies from other nodes, though these live.")
    ] = False,
    replace_identity: Annotated[
        list[str] | None,
        typer.Option(
            "--replace-identity", metavar="COMPANY", help="Give up the identity it was paired with since."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished restore.")] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give an unfinished restore up: put back what it replaced.")
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Put back what a backup holds: shows the plan, asks, keeps what it replaces."""
    if sum((name is not None, resume, abandon)) != 1:
        raise UsageError(
            "name a backup, or --resume, or --abandon", next_step="See the names with: standfast backup list"
        )
    with contextlib.ExitStack() as stack:
        progress = Later(stack, as_json=json)
        if name is None:
            report = run_async(_unfinished(progress, resume=resume, to=to, yes=yes, as_json=json))
        else:
            wish = Wish(frozenset(company or ()), not no_replay, force, frozenset(replace_identity or ()))
            agree = partial(shown, dry_run=dry_run, yes=yes, as_json=json, begin=progress.begin)
            found = run_async(restore_backup(current_settings(), Asked(name, wish, to), agree, progress))
            if found is None:
                return
            report = found
    print_report(report, as_json=json)


async def _unfinished(
    progress: Later, *, resume: bool, to: str | None, yes: bool, as_json: bool
) -> RestoreReport:
    question = "Put back what the unfinished restore has replaced?"
    if not resume and not agreed(question, yes=yes, as_json=as_json):
        raise typer.Abort
    progress.begin()
    if resume:
        return await resume_unfinished(current_settings(), to, progress)
    return await abandon_unfinished(current_settings(), to, progress)
