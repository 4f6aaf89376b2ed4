"""`standfast verify`: whether creds and keys are whole, in PostgreSQL, in the replica and in files.

Thin: `jobs.verify` looks; what it finds decides the exit code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from standfast.authstate.company import company_id
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.cli.progress import progress_shown
from standfast.errors import AuthStateCorrupt, DatabaseUnavailable, UsageError
from standfast.jobs.emergency.mode import ModeFile
from standfast.jobs.progress import Progress
from standfast.jobs.verify.finding import SOURCES, Compared, Finding, Source, VerifyReport
from standfast.jobs.verify.run import VerifyOptions, run_verify
from standfast.service.verifying import verifying_context
from standfast.settings import Settings

_SHOWN = 20
_STYLES = {"error": "red", "warning": "yellow", "info": "dim"}
CompanyArgument = Annotated[str | None, typer.Argument(metavar="COMPANY", help="This one only.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("verify")(verify)


def verify(
    company: CompanyArgument = None,
    *,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="postgresql|replica|files",
            help="Only this one; may be given more than once. Default: every one that there is.",
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the folders of files are; implies files.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show everything, info too.")] = False,
    json: JsonOption = False,
) -> None:
    """Check that creds and keys are whole: in PostgreSQL, in the replica and in files; change nothing."""
    if company is not None:
        company_id(company)
    settings = current_settings()
    options = _options(settings, company, source or [], directory)
    with progress_shown(json=json) as progress:
        report = run_async(_verified(settings, options, progress))
    if json:
        print_json(msgspec.to_builtins(report))
    else:
        print_report(report, verbose=verbose)
    if not report.is_clean:
        raise typer.Exit(AuthStateCorrupt.exit_code)
    if report.not_looked_at:
        raise typer.Exit(DatabaseUnavailable.exit_code)


def _options(
    settings: Settings, company: str | None, names: list[str], directory: Path | None
) -> VerifyOptions:
    wrong = [name for name in names if name not in SOURCES]
    if wrong:
        raise UsageError(
            f"there is no source {wrong[0][:30]!r}", next_step=f"It is one of {', '.join(SOURCES)}."
        )
    wanted: tuple[Source, ...] | None = tuple(one for one in SOURCES if one in names) or None
    if directory is not None and wanted is not None and "files" not in wanted:
        raise UsageError("--dir names folders, and --source leaves files out")
    if directory is not None and not directory.is_dir():
        raise UsageError(f"{directory} is no folder", next_step="Name the folder that holds the companies'.")
    mode = ModeFile(settings.state_dir).read()
    files = directory or (Path(mode.root) if mode is not None else None)
    if files is None and wanted is not None and "files" in wanted:
        files = settings.emergency_directory
    return VerifyOptions(company, wanted, files.absolute() if files is not None else None)


async def _verified(settings: Settings, options: VerifyOptions, progress: Progress) -> VerifyReport:
    with_database = options.sources is None or "postgresql" in options.sources
    async with verifying_context(settings, progress, with_database=with_database) as (context, replica):
        return await run_verify(context, replica, options)


def print_report(report: VerifyReport, *, verbose: bool = False) -> None:
    """What was looked at, what was found, worst first, and what to do."""
    out = console()
    looked = ", ".join(f"{name} {count:,}" for name, count in report.looked_at.items())
    out.print(f"Looked at {report.keys:,} keys in {report.duration_s:.1f} s. Companies: {looked or 'none'}")
    for name, reason in report.not_looked_at.items():
        out.print(f"Not looked at: {name}: {reason}", style="yellow")
    shown = [one for one in report.findings if verbose or one.level != "info"]
    for one in shown if verbose else shown[:_SHOWN]:
        _print_finding(one)
    if len(shown) > _SHOWN and not verbose:
        out.print(f"And {len(shown) - _SHOWN:,} more: --verbose shows all.", style="yellow")
    if verbose:
        for compared in report.compared:
            out.print(_words(compared), style="dim")
    _print_verdict(report)


def _print_finding(one: Finding) -> None:
    out = console(wraps=True)
    named = f"{one.company}  {one.type}" if one.type and one.type != "creds" else one.company
    out.print(f"{one.level} {one.id}  {named}  ({', '.join(one.where)})", style=_STYLES[one.level])
    count = f"{one.count:,} x " if one.count > 1 else ""
    out.print(f"  {count}{one.what}{': ' + one.detail if one.detail else ''}")
    if one.examples:
        out.print(f"  such as {', '.join(one.examples)}")
    out.print(f"  causes: {one.causes}")
    if one.repair:
        out.print(f"  repair: {one.repair}")


def _print_verdict(report: VerifyReport) -> None:
    out = console()
    infos = report.count("info")
    if report.is_clean:
        also = f" ({infos:,} infos: --verbose)" if infos else ""
        out.print(f"Everything that was looked at is whole.{also}", style="green")
        return
    out.print(
        f"Errors: {report.count('error'):,}, warnings: {report.count('warning'):,}, infos: {infos:,}.",
        style="red",
    )
    out.print("See what a repair would do: standfast repair --dry-run", style="dim")


def _words(one: Compared) -> str:
    there = f"PostgreSQL {one.postgresql_epoch}/{one.postgresql_sequence}"
    here = f"replica {one.replica_epoch}/{one.replica_sequence}"
    newer = {"same": "the same", "postgresql": "PostgreSQL is newer", "replica": "the replica is newer"}
    return f"{one.company}: {there}, {here}: {newer[one.newer]}"
