"""`standfast emergency to-postgres`: the way back: compared, shown, decided, done.

Invariant: nothing is changed before somebody has agreed to what was shown; with `--json`, stdout holds one document.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.table import Table

from standfast.alert import LoggedAlerts
from standfast.authstate.company import company_id
from standfast.cli.asking import YesOption
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.cli.restoring import Later, agreed
from standfast.errors import EmergencyFailed, EmergencyRefused, UsageError
from standfast.jobs.emergency.comparison import WORDS, Compared, Preferred, Wish
from standfast.jobs.emergency.from_folders import FromFolders
from standfast.jobs.emergency.mode import ModeFile
from standfast.jobs.emergency.return_look import Outlook, not_on_files
from standfast.jobs.emergency.return_report import BroughtBack, ReturnReport
from standfast.jobs.emergency.to_postgres import ToPostgres
from standfast.service.returning import folders_context, returning_context
from standfast.state_dir import StateDirectory

_STYLES = {"conflict": "red", "held": "red", "damaged": "red", "done": "dim", "not here": "yellow"}
_PREFERRED: dict[str, Preferred] = {"files": "files", "postgresql": "postgresql"}
_ACTIONS = {
    "import": "import",
    "keep files": "files win",
    "keep postgresql": "PostgreSQL wins",
    "none": "-",
    "decide": "decide",
}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("to-postgres")(to_postgres)


def to_postgres(
    *,
    prefer: Annotated[
        str | None, typer.Option("--prefer", metavar="files|postgresql", help="Who wins where both moved on.")
    ] = None,
    company: Annotated[
        list[str] | None,
        typer.Option("--company", help="--prefer decides this company; may be given more than once."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Only folders are left: bring in DIR/COMPANY, each."),
    ] = None,
    accept_damage: Annotated[
        bool, typer.Option("--accept-damage", help="With --dir: do without keys whose files are damaged.")
    ] = False,
    other_database: Annotated[
        bool, typer.Option("--other-database", help="Go to another database than the one that was left.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, show, and end.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Go back from files to PostgreSQL: compare, import, switch, verify."""
    wish = _wish(prefer, company)
    if accept_damage and directory is None:
        raise UsageError("--accept-damage is for folders", next_step="Name them: --dir DIR")
    asked = _Asked(dry_run, yes, json)
    if directory is None:
        report = run_async(_returned(wish, asked, other_database=other_database))
    else:
        report = run_async(_brought_in(directory.absolute(), wish, asked, accept_damage=accept_damage))
    if report is not None:
        _print_report(report, as_json=json)


class _Asked(NamedTuple):
    dry_run: bool
    yes: bool
    as_json: bool


async def _returned(wish: Wish, asked: _Asked, *, other_database: bool) -> ReturnReport | None:
    settings = current_settings()
    file = ModeFile(settings.state_dir)
    if file.read() is None:
        raise not_on_files()
    with contextlib.ExitStack() as stack:
        stack.enter_context(file.locked())
        progress = Later(stack, as_json=asked.as_json)
        async with returning_context(settings, progress, LoggedAlerts()) as (context, node):
            job = ToPostgres(context, node, wish, other_database=other_database)
            return await _agreed_and_done(job, asked, progress)


async def _brought_in(root: Path, wish: Wish, asked: _Asked, *, accept_damage: bool) -> ReturnReport | None:
    settings = current_settings()
    StateDirectory(settings.state_dir).prepare()
    file = ModeFile(settings.state_dir)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file.locked())
        file.refuse_on_files()
        progress = Later(stack, as_json=asked.as_json)
        async with folders_context(settings, progress, LoggedAlerts()) as context:
            job = FromFolders(context, root, wish, accept_damage=accept_damage)
            return await _agreed_and_done(job, asked, progress)


async def _agreed_and_done(
    job: ToPostgres | FromFolders, asked: _Asked, progress: Later
) -> ReturnReport | None:
    outlook = await job.look()
    if not asked.as_json:
        _print_outlook(outlook)
    elif asked.dry_run:
        print_json({"plan": msgspec.to_builtins(outlook)})
    if asked.dry_run:
        return None
    _refuse_nothing_left(outlook)
    if not await asyncio.to_thread(agreed, _question(outlook), yes=asked.yes, as_json=asked.as_json):
        raise typer.Abort
    progress.begin()
    return await job.run(outlook)


def _wish(prefer: str | None, companies: list[str] | None) -> Wish:
    if prefer is None and companies:
        raise UsageError(
            "--company says whose conflict --prefer decides", next_step="Add --prefer files, or postgresql."
        )
    if prefer is not None and prefer not in _PREFERRED:
        raise UsageError(f"--prefer takes 'files' or 'postgresql', not {prefer!r}")
    named = frozenset(company_id(one) for one in companies or ())
    return Wish(_PREFERRED[prefer] if prefer is not None else None, named)


def _refuse_nothing_left(outlook: Outlook) -> None:
    """Where there is nothing to do but what has to be decided first."""
    undecided = outlook.undecided
    if undecided and all(one.action in ("decide", "none") for one in outlook.companies):
        raise undecided_error([one.company for one in undecided], undecided[0].why)


def undecided_error(companies: list[str], why: str = "") -> EmergencyRefused:
    """What is said of companies that nobody has decided for."""
    more = f" and {len(companies) - 1:,} more" if len(companies) > 1 else ""
    return EmergencyRefused(
        f"{companies[0]}{more} cannot be brought back undecided{': ' if why else ''}{why}",
        next_step="Decide: standfast emergency to-postgres --prefer files|postgresql --company "
        f"{companies[0]}; what loses is kept as a folder. A damaged folder: --accept-damage.",
    )


def _question(outlook: Outlook) -> str:
    is_back = outlook.since > 0
    if outlook.undecided:
        count = sum(not one.is_undecided for one in outlook.companies)
        stay = ", and stay on files until the rest is decided" if is_back else ""
        return f"Bring back the other {count:,}{stay}?"
    return (
        "Go back to PostgreSQL?" if is_back else "Bring these in? No bot may be connected from them any more."
    )


def _print_outlook(outlook: Outlook) -> None:
    out = console()
    if outlook.since:
        out.print(f"On files for {duration(max(0.0, time.time() - outlook.since))}, in {outlook.folders}")
        out.print(f"back to {outlook.database}")
    else:
        out.print(f"Folders of {outlook.folders}, into {outlook.database}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("company", "PostgreSQL", "files", "who is newer", "action"):
        table.add_column(name, justify="right" if name in ("PostgreSQL", "files") else "left", no_wrap=True)
    for one in outlook.companies:
        table.add_row(*_row(one), style=_STYLES.get(one.verdict))
    out.print(table)
    for verdict in dict.fromkeys(one.verdict for one in outlook.companies):
        out.print(f"  {verdict}: {WORDS[verdict]}", style="dim")
    for one in outlook.companies:
        if one.why:
            out.print(f"{one.company}: {one.why}", style=_STYLES.get(one.verdict))
    if outlook.left_alone:
        out.print(f"Left alone, only PostgreSQL has them: {', '.join(outlook.left_alone)}")
    if outlook.identity:
        out.print("The database is empty: it takes the place of the one that was lost.")
    if outlook.bind:
        out.print("This is another database than the one that was left.", style="yellow")


def _row(one: Compared) -> tuple[str, str, str, str, str]:
    return (
        one.company,
        _point(one.postgresql_epoch, one.postgresql_sequence),
        _point(one.files_epoch, one.files_sequence),
        one.verdict,
        _ACTIONS[one.action],
    )


def _point(epoch: int, sequence: int) -> str:
    return f"{epoch}:{sequence}" if epoch or sequence else "-"


def _print_report(report: ReturnReport, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(report)
        print_json(document | {"ok": report.ok})
    else:
        _print_done(report)
    if report.undecided and not as_json:
        raise undecided_error(report.undecided)
    if report.undecided:
        raise typer.Exit(EmergencyRefused.exit_code)
    if not report.ok:
        raise typer.Exit(EmergencyFailed.exit_code)


def _print_done(report: ReturnReport) -> None:
    out = console()
    for one in report.companies:
        is_well = one.error is None and one.action != "decide" and one.session in (None, "open")
        out.print(_done_words(one), style=None if is_well else "red")
        if one.kept:
            out.print(f"  what was not taken is in {one.kept}", style="dim")
    for step in report.steps:
        out.print(f"  {step.seconds:8.3f} s  {step.step}", style="dim")
    lost = "" if report.from_folders else f", {report.writes_lost} writes lost"
    out.print(f"{len(report.companies):,} companies in {report.duration_s:.1f} s{lost}")
    if report.from_folders:
        out.print("Start those that are to run: standfast start COMPANY", style="yellow")
    elif not report.is_back:
        out.print("This node stays on files; what was brought back need not be again.", style="yellow")
    elif not report.is_confirmed:
        out.print(
            "It stands on PostgreSQL, which has not confirmed everything yet: standfast status",
            style="yellow",
        )
    else:
        out.print("This node stands on PostgreSQL again.", style="green")
    out.print(f"The folders stay in {report.folders}")


def _done_words(one: BroughtBack) -> str:
    session = f", session {one.session}" if one.session else ""
    if one.error:
        return f"{one.company}: not brought back: {one.error}"
    if one.action == "decide":
        return f"{one.company}: undecided, as it was"
    if one.action == "keep postgresql":
        return f"{one.company}: left to PostgreSQL{session}"
    if one.action == "none":
        return f"{one.company}: nothing to do{session}"
    return f"{one.company}: {one.keys:,} keys{session}"
