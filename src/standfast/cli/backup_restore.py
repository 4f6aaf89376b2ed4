"""`standfast backup restore`: put back what a backup holds.

Thin: `jobs.restore` plans and does it; here the plan is shown, and a person asked.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from standfast.cli.asking import YesOption, can_ask, confirmed
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.errors import RestoreRefused, UsageError
from standfast.jobs.restore.plan import WORDS, Plan, Planned, Wish
from standfast.jobs.restore.restore import RestoreReport
from standfast.service.restore_run import Asked, abandon_unfinished, restore_backup, resume_unfinished

_STYLES = {"refused": "red", "rolled back": "yellow", "same": "dim"}
FAILED = 30


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
    if name is None:
        report = run_async(_unfinished(resume=resume, to=to, yes=yes, as_json=json))
    else:
        wish = Wish(frozenset(company or ()), not no_replay, force, frozenset(replace_identity or ()))
        agree = partial(shown, dry_run=dry_run, yes=yes, as_json=json)
        found = run_async(restore_backup(current_settings(), Asked(name, wish, to), agree))
        if found is None:
            return
        report = found
    print_report(report, as_json=json)


async def _unfinished(*, resume: bool, to: str | None, yes: bool, as_json: bool) -> RestoreReport:
    if resume:
        return await resume_unfinished(current_settings(), to)
    if not _agreed("Put back what the unfinished restore has replaced?", yes=yes, as_json=as_json):
        raise typer.Abort
    return await abandon_unfinished(current_settings(), to)


def shown(plan: Plan, *, dry_run: bool, yes: bool, as_json: bool) -> bool:
    """Print it. Whether the plan, having been shown, is to be done."""
    if not as_json:
        _print_plan(plan)
    elif dry_run or not plan.writes:
        print_json({"plan": msgspec.to_builtins(plan)})
    if dry_run:
        return False
    if not plan.writes:
        _refuse(plan)
        return False
    if not _agreed("Restore this?", yes=yes, as_json=as_json):
        raise typer.Abort
    return True


def _refuse(plan: Plan) -> None:
    """Nothing can be done of what was asked for."""
    against = plan.of("refused")
    if against:
        raise RestoreRefused(f"{against[0].company}: {against[0].why}")


def _agreed(question: str, *, yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if not can_ask(as_json=as_json):
        raise UsageError("this needs a confirmation, and nobody can be asked", next_step="Add --yes.")
    return confirmed(question)


def _print_plan(plan: Plan) -> None:
    out = console()
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(plan.at))
    what = plan.source if plan.source.startswith("changelog@") else f"Backup {plan.source}"
    out.print(f"{what}, as of {at} ({duration(max(0.0, time.time() - plan.at))} ago)")
    out.print(f"into {plan.target}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "keys now", "written", "keys then", "what happens"):
        table.add_column(name, justify="right" if name.startswith("keys") else "left")
    for one in plan.companies:
        table.add_row(*_row(one), style=_STYLES.get(one.action))
    out.print(table)
    for action in dict.fromkeys(one.action for one in plan.companies):
        out.print(f"  {action}: {WORDS[action]}", style="dim")
    for one in plan.companies:
        if one.why:
            out.print(f"{one.company}: {one.why}", style=_STYLES.get(one.action))
    if plan.left_alone:
        out.print(f"Left alone, as the backup has nothing to say of them: {', '.join(plan.left_alone)}")
    if plan.unusable:
        out.print(f"Not restored, for Standfast refuses such ids: {', '.join(map(repr, plan.unusable))}")
    if plan.identity:
        out.print("The database is empty: it becomes the one that the backup was taken from, for every node.")


def _row(one: Planned) -> tuple[str, str, str, str, str]:
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.written_at)) if one.written_at else "-"
    holder = f" (held by {one.holder})" if one.holder else ""
    return one.company, f"{one.keys_now:,}", written, f"{one.keys_then:,}", f"{one.action}{holder}"


def print_report(report: RestoreReport, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(report)
        print_json(document | {"ok": report.ok})
    else:
        _print_done(report)
    if not report.ok:
        raise typer.Exit(FAILED)


def _print_done(report: RestoreReport) -> None:
    out = console()
    for one in report.companies:
        session = f", session {one.session}" if one.session else ""
        if one.error:
            out.print(f"{one.company}: not restored: {one.error}", style="red")
        else:
            out.print(f"{one.company}: {one.action}, {one.keys:,} keys{session}")
        if one.kept:
            out.print(f"  what it was before is in {one.kept}", style="dim")
    out.print(f"{len(report.companies):,} companies in {duration(report.duration_s)}")
    if not report.is_finished:
        out.print(
            "Unfinished. Go on: standfast backup restore --resume; or go back: --abandon", style="yellow"
        )
