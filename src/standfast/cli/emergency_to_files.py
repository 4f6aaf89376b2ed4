"""`standfast emergency to-files` and `take`: the switch to files, shown, asked, done; and what it leaves to be decided.

Invariant: nothing is changed before somebody has agreed to what was shown; with `--json`, stdout holds one document.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from standfast.alert import LoggedAlerts
from standfast.authstate.company import company_id
from standfast.cli.asking import CompanyArgument, YesOption
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json, size
from standfast.cli.restoring import Later, agreed
from standfast.errors import EmergencyFailed, ServiceUnavailable, UsageError
from standfast.jobs.emergency.folders import new_switch
from standfast.jobs.emergency.mode import ModeFile
from standfast.jobs.emergency.to_files import FilesPlan, FilesReport, Moved, ToFiles, Wanted
from standfast.jobs.restore.steps import StepsFile
from standfast.service.link import Link
from standfast.service.offline import service_runs
from standfast.service.to_files import files_node
from standfast.service.to_files_methods import ServiceFiles
from standfast.settings import Settings
from standfast.state_dir import StateDirectory


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("to-files")(to_files)
    app.command("take")(take)


def to_files(
    *,
    company: Annotated[
        list[str] | None, typer.Option("--company", help="Folders for this company alone; may be repeated.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option("--leave-out", metavar="COMPANY", help="Go without it; may be repeated."),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where the folders are to be.")
    ] = None,
    keep_connections: Annotated[
        bool, typer.Option("--keep-connections", help="Leave sockets that are open alone.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is shown by 'status'.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, show, and end.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Stand on Baileys' file sessions from now on, PostgreSQL dead or alive."""
    settings = current_settings()
    wanted = Wanted(
        str((directory or settings.emergency_directory).absolute()),
        [company_id(one) for one in company or ()],
        [company_id(one) for one in leave_out or ()],
        reconnects=not keep_connections,
        reason=reason[:200],
    )
    report = run_async(_switched(settings, wanted, dry_run=dry_run, yes=yes, as_json=json))
    if report is None:
        return
    if json:
        document: dict[str, Any] = msgspec.to_builtins(report)
        print_json(document | {"ok": report.ok})
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(EmergencyFailed.exit_code)


async def _switched(
    settings: Settings, wanted: Wanted, *, dry_run: bool, yes: bool, as_json: bool
) -> FilesReport | None:
    StateDirectory(settings.state_dir).prepare()
    file = ModeFile(settings.state_dir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file.locked())
        file.refuse_on_files()
        StepsFile(settings.state_dir).refuse_unfinished()
        progress = Later(stack, as_json=as_json)
        async with files_node(settings, LoggedAlerts()) as (node, is_service):
            job = ToFiles(node, wanted, progress, new_switch, is_service=is_service)
            plan = await job.look()
            if not as_json:
                _print_plan(plan)
            elif dry_run:
                print_json({"plan": msgspec.to_builtins(plan)})
            if dry_run:
                return None
            if not await asyncio.to_thread(agreed, _question(plan), yes=yes, as_json=as_json):
                raise typer.Abort
            progress.begin()
            return await job.run(plan)


def _question(plan: FilesPlan) -> str:
    without = f" without {len(plan.left_out):,} of them" if plan.left_out else ""
    return f"Stand on files{without} from now on, and leave PostgreSQL alone?"


def _print_plan(plan: FilesPlan) -> None:
    out = console()
    out.print(f"PostgreSQL: {plan.postgresql}")
    out.print(f"folders:    {plan.root}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "from", "sequence", "keys", "size", "session"):
        table.add_column(
            name, justify="right" if name in ("sequence", "keys", "size") else "left", no_wrap=True
        )
    for one in plan.moving:
        figures = (f"{one.sequence:,}", f"{one.keys:,}", size(one.size_bytes))
        known = figures if one.source == "replica" else ("", "", "")
        table.add_row(one.company, one.source, *known, "wanted" if one.session else "")
    out.print(table)
    for one in plan.left_out:
        out.print(f"{one.company}: left out: {one.why}", style="yellow")
    if plan.others:
        out.print(f"{plan.others:,} others go on from the replica, without folders.", style="yellow")


def _print_report(report: FilesReport) -> None:
    out = console()
    for one in report.companies:
        out.print(_words(one), style=None if one.session in (None, "open") else "red")
    for left in report.left_out:
        out.print(f"{left.company}: left out: {left.why}", style="yellow")
    for step in report.steps:
        out.print(f"  {step.seconds:8.3f} s  {step.step}", style="dim")
    count = len(report.companies)
    lost = "" if report.writes_lost is None else f", {report.writes_lost} writes lost"
    out.print(f"{count:,} companies in {report.duration_s:.1f} s{lost}")
    if report.writes_lost is None:
        out.print(
            "What came from the past lacks whatever was written since; contacts' first messages are asked for again.",
            style="yellow",
        )
    if report.kept:
        out.print(f"Former folders are kept in {report.kept}")
    out.print(f"This node stands on files, in {report.folders}", style="green")
    if not report.is_service:
        out.print("No service runs: the next 'standfast up' begins on files.", style="yellow")
    out.print("The way back, once PostgreSQL is well: standfast emergency to-postgres")


def _words(one: Moved) -> str:
    session = f", session {one.session}" if one.session else ""
    return f"{one.company}: {one.files:,} files from {one.source}{session}"


def take(
    company: CompanyArgument,
    *,
    side: Annotated[str, typer.Option("--from", metavar="files|vault", help="Whose state goes on.")],
    yes: YesOption = False,
) -> None:
    """On files: decide for a company that a bot has changed in its folder, and this node too."""
    if side not in ("files", "vault"):
        raise UsageError(f"--from takes 'files' or 'vault', not {side!r}")
    settings, known = current_settings(), company_id(company)
    other = "the vault" if side == "files" else "the folder"
    if not agreed(f"Go on with the {side}, and give up what {other} has beyond?", yes=yes, as_json=False):
        raise typer.Abort
    run_async(_taken(settings, known, from_files=side == "files"))
    console().print(f"{known}: {side} it is")


async def _taken(settings: Settings, company: str, *, from_files: bool) -> None:
    if not service_runs(settings):
        raise ServiceUnavailable("no service runs", next_step="Start it: standfast up")
    link = Link(StateDirectory(settings.state_dir).gateway_socket)
    try:
        await link.open()
        await ServiceFiles(link).take(company, from_files=from_files)
    finally:
        link.close()
