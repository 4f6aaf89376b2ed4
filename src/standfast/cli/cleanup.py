"""`standfast cleanup`: keys that may go, into the trash and back.

Thin: `jobs.cleanup` does it, in the running service where there is one, for only its vault may remove what it holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from standfast.authstate.company import company_id
from standfast.cli.asking import YesOption, can_ask, confirmed
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json, size
from standfast.cli.progress import progress_shown
from standfast.errors import UsageError
from standfast.jobs.cleanup import ledger
from standfast.jobs.cleanup.report import CleanupReport, Measures, Undone
from standfast.jobs.cleanup.run import CleanupOptions, run_cleanup
from standfast.jobs.cleanup.undo import undo as undo_run
from standfast.jobs.progress import Progress
from standfast.service.client import connect
from standfast.service.job_context import command_context
from standfast.service.offline import service_runs
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

RUN_TIMEOUT_S = 3_600.0
_COMPANIES_SHOWN = 10
app = typer.Typer(
    invoke_without_command=True,
    help="Remove keys that may go by their type's rule; 'undo' puts them back.",
)
CompanyOption = Annotated[str | None, typer.Option("--company", metavar="COMPANY", help="This one only.")]


def register(root: typer.Typer) -> None:
    """Add the commands of this module."""
    root.add_typer(app, name="cleanup")


@app.callback()
def cleanup(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; change nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show ages and every company.")] = False,
    retention_days: Annotated[
        int | None,
        typer.Option(
            "--retention-days", metavar="N", help="Age from which on keys may go; a type may ask for more."
        ),
    ] = None,
    company: CompanyOption = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="safe|legacy",
            help="What may go; 'legacy': everything old, also what contacts need.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Beyond the ceiling (DB_CLEANUP_CEILING).")] = False,
    json: JsonOption = False,
) -> None:
    """Remove keys that may go by their type's rule; 'undo' puts them back."""
    if context.invoked_subcommand is not None:
        return
    if policy not in (None, "safe", "legacy"):
        raise UsageError(f"there is no policy {policy!r}", next_step="It is 'safe' or 'legacy'.")
    if retention_days is not None and not 1 <= retention_days <= 3_650:
        raise UsageError("--retention-days is from 1 to 3650", next_step="Add --retention-days 30.")
    if company is not None:
        company_id(company)
    options = CleanupOptions(policy, retention_days, company, dry_run, force)  # type: ignore[arg-type]
    with progress_shown(json=json) as progress:
        report = run_async(_cleaned(current_settings(), options, progress))
    if json:
        print_json(msgspec.to_builtins(report))
    else:
        _print_report(report, verbose=verbose)


@app.command("list")
def list_runs(*, json: JsonOption = False) -> None:
    """Show the runs of which the trash still has something, newest first."""
    found = run_async(_runs(current_settings()))
    if json:
        print_json(msgspec.to_builtins(found))
        return
    if not found:
        console().print("No cleanup is on record.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "node", "policy", "removed", "in trash", "state"):
        table.add_column(name, justify="right" if name in ("removed", "in trash") else "left")
    for one in found:
        table.add_row(one.run, one.node, one.policy, f"{one.removed:,}", f"{one.in_trash:,}", _state(one))
    console().print(table)
    console().print("Put one back with: standfast cleanup undo RUN", style="dim")


@app.command()
def undo(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, as 'cleanup list' shows it.")],
    *,
    company: CompanyOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Put back what a run removed: the rows just as they were, but those written anew since."""
    if company is not None:
        company_id(company)
    if not yes:
        if not can_ask(as_json=json):
            raise UsageError("this needs a confirmation, and nobody can be asked", next_step="Add --yes.")
        if not confirmed(f"Put back what cleanup {run} removed?"):
            raise typer.Abort
    done = run_async(_undone(current_settings(), run, company))
    if json:
        print_json(msgspec.to_builtins(done))
    else:
        _print_undone(done)
    if done.refused and not done.restored:
        raise typer.Exit(7)


async def _cleaned(settings: Settings, options: CleanupOptions, progress: Progress) -> CleanupReport:
    if not service_runs(settings):
        async with command_context(settings, "cleanup", progress) as context:
            return await run_cleanup(context, None, options)
    progress.step("the service cleans up")
    params = {
        "policy": options.policy,
        "retention_days": options.retention_days,
        "company": options.company,
        "dry_run": options.dry_run,
        "force": options.force,
    }
    return msgspec.convert(await _asked(settings, "cleanup.run", params), CleanupReport)


async def _undone(settings: Settings, run: str, company: str | None) -> Undone:
    if not service_runs(settings):
        async with command_context(settings, "cleanup") as context:
            return await undo_run(context, run, None, company)
    return msgspec.convert(await _asked(settings, "cleanup.undo", {"run": run, "company": company}), Undone)


async def _asked(settings: Settings, method: str, params: dict[str, Any]) -> Any:
    async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
        return await client.job(method, params, RUN_TIMEOUT_S)


async def _runs(settings: Settings) -> list[ledger.Run]:
    async with command_context(settings, "cleanup") as context:
        return await ledger.runs(context.database)


def _print_report(report: CleanupReport, *, verbose: bool) -> None:
    out = console()
    verb = "would go" if report.dry_run else "removed"
    style = "yellow" if report.dry_run else "green"
    out.print(f"{report.count:,} keys {verb} in {report.duration_s * 1000:,.0f} ms", style=style)
    for warning in _warnings(report):
        out.print(warning, style="yellow")
    for key_type, count in report.removed.items():
        out.print(f"  {key_type}: {count:,}")
    _print_measures(report)
    shown = report.companies if verbose else [one for one in report.companies if one.left][:_COMPANIES_SHOWN]
    for one in shown:
        if one.removed:
            types = ", ".join(f"{name} {count:,}" for name, count in one.removed.items())
            out.print(f"  {one.company}: {types}")
        if one.left:
            out.print(f"  {one.company}: {one.left:,} stay, {one.reason}", style="yellow")
    if report.beyond_ceiling:
        out.print(
            f"{report.beyond_ceiling:,} more are old: a run removes {report.ceiling:,} at most; --force goes beyond.",
            style="yellow",
        )
    if verbose:
        _print_ages(report)
    if report.dry_run:
        out.print("Nothing was changed.")
    elif report.run and report.count:
        out.print(f"Put them back with: standfast cleanup undo {report.run}", style="dim")


def _warnings(report: CleanupReport) -> Iterator[str]:
    if report.policy == "legacy":
        yield "Policy 'legacy': contacts, groups and pairs may need what went."
        if report.count and not report.dry_run:
            yield "Restart sessions that run, they know it still: standfast restart COMPANY"


def _print_measures(report: CleanupReport) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "keys", "table", "indexes", "total"):
        table.add_column(name, justify="left" if not name else "right")
    for name, found in (("before", report.before), ("after", report.after)):
        if found is not None:
            table.add_row(name, f"{found.keys:,}", *_sizes(found))
    console().print(table)
    if report.after is not None:
        done = {"": "", "done": "; vacuumed"}.get(report.vacuum, f"; vacuum {report.vacuum}")
        console().print(f"freed {size(max(0, report.freed_bytes))}{done}", style="dim")


def _sizes(found: Measures) -> tuple[str, str, str]:
    return size(found.table_bytes), size(found.index_bytes), size(found.total_bytes)


def _print_ages(report: CleanupReport) -> None:
    out, found = console(), report.after or report.before
    out.print("keys by age: " + ", ".join(f"{bucket} {count:,}" for bucket, count in found.ages.items()))
    if found.oldest_at is not None and found.newest_at is not None:
        out.print(f"oldest {_when(found.oldest_at)}, newest {_when(found.newest_at)}")
    if report.purged:
        out.print(f"{report.purged:,} keys left the trash for good", style="dim")


def _print_undone(done: Undone) -> None:
    out = console()
    out.print(
        f"{done.restored:,} keys of {len(done.companies)} companies are back as they were", style="green"
    )
    if done.newer:
        out.print(f"{done.newer:,} were written anew since, and stay as they are")
    for company, reason in done.refused.items():
        out.print(f"  {company}: nothing was put back, {reason}", style="yellow")
    if done.running:
        out.print(f"Sessions that run see them after: standfast restart {done.running[0]}", style="yellow")


def _state(one: ledger.Run) -> str:
    if one.undone_at is not None:
        return f"undone {_when(one.undone_at)}"
    return "runs, or was ended half-way" if one.ended_at is None else "done"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
