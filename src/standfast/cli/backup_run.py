"""`standfast backup run`: one backup, now.

Thin: `jobs.backup.run` does it, here, also beside a running service.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json, size
from standfast.cli.progress import progress_shown
from standfast.jobs.backup.manifest import Kind
from standfast.jobs.backup.report import BackupReport, Plan
from standfast.jobs.backup.run import run_backup
from standfast.jobs.backup.validate import validate
from standfast.service.job_context import command_context


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group."""
    app.command("run")(run)


def run(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done and what would go; write nothing.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show sizes, programs and what was removed.")
    ] = False,
    monthly: Annotated[
        bool, typer.Option("--monthly", help="Keep it as the month's, too; the first good one of a month is.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make a backup, prove that it can be read, then remove those that are kept no longer."""
    kinds: tuple[Kind, ...] = ("daily", "monthly") if monthly else ("daily",)
    report = run_async(_run(kinds, dry_run=dry_run, json=json))
    if json:
        print_json(msgspec.to_builtins(report))
    elif report.plan is not None:
        _print_plan(report.plan)
    else:
        _print_report(report, verbose=verbose)


async def _run(kinds: tuple[Kind, ...], *, dry_run: bool, json: bool) -> BackupReport:
    with progress_shown(json=json) as progress:
        async with command_context(current_settings(), "backup", progress) as context:
            return await run_backup(context, kinds, dry_run=dry_run, validate=validate)


def _print_report(report: BackupReport, *, verbose: bool) -> None:
    out = console()
    out.print(f"{report.first_line} ({', '.join(report.kinds)}), in {report.duration_s:.1f} s", style="green")
    out.print(f"In {report.path}{', encrypted' if report.encrypted else ''}")
    if report.validation is None:
        out.print("It is not proven yet: standfast backup validate", style="yellow")
    elif report.validation.sealed:
        out.print("Only its checksum could be checked: no identity on this machine opens it.", style="yellow")
    for oddity in report.oddities:
        out.print(f"warning: {oddity}", style="yellow")
    if report.removed:
        out.print(f"Removed: {', '.join(report.removed)}", style="dim")
    if verbose:
        out.print(f"  {size(report.plain_bytes)} of pg_dump's became {size(report.bytes)}", style="dim")
        for name in report.left_over:
            out.print(f"  {name}, left by a run that was killed, was removed", style="dim")
        if report.validation is not None:
            out.print(f"  validated in {report.validation.duration_s:.1f} s", style="dim")


def _print_plan(plan: Plan) -> None:
    out = console()
    free = "" if plan.free_bytes is None else f", {size(plan.free_bytes)} free"
    expected = "not known yet" if plan.expected_bytes is None else f"about {size(plan.expected_bytes)}"
    out.print(f"from     {plan.server}, PostgreSQL {plan.server_version}")
    out.print(f"with     {plan.pg_dump} {plan.client_version}")
    out.print(f"to       {plan.root}{free}; {'encrypted' if plan.encrypted else 'not encrypted'}")
    out.print(f"size     {expected}; the tables take {size(sum(plan.tables.values()))}")
    out.print(f"kept as  {', '.join(plan.kinds)}")
    for name, count in plan.tables.items():
        out.print(f"  {name}: {size(count)}", style="dim")
    for name in plan.left_over:
        out.print(f"would remove {name}, left by a run that was killed")
    for name in plan.removed:
        out.print(f"would remove {name}, once the new one is proven")
    out.print("Nothing was written.")
