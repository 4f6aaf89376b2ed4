"""`standfast backup push`, `fetch` and `remotes`: copies elsewhere.

Thin: `jobs.remotes` does it, without PostgreSQL, so that it also works where that is lost.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json, size
from standfast.cli.progress import progress_shown
from standfast.errors import RemoteFailed, UsageError
from standfast.jobs.progress import Progress
from standfast.jobs.remotes.fetching import fetch_backup
from standfast.jobs.remotes.overview import remote_states
from standfast.jobs.remotes.report import RemotesReport, RemoteState, Sent
from standfast.jobs.remotes.sending import send_backups
from standfast.service.job_context import offline_context
from standfast.settings import Settings

_LOOKS = {"up to date": "green", "behind": "yellow", "empty": "yellow", "down": "red"}
RemoteOption = Annotated[
    str | None, typer.Option("--remote", metavar="REMOTE", help="Only this one, by its name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group."""
    app.command("push")(push)
    app.command("fetch")(fetch)
    app.command("remotes")(remotes)


def push(*, remote: RemoteOption = None, json: JsonOption = False) -> None:
    """Send good backups to the remotes that lack them, now, and remove there what is kept no longer."""
    settings = _with_remotes()
    with progress_shown(json=json) as progress:
        report = run_async(_sent(settings, remote, progress))
    if json:
        print_json(msgspec.to_builtins(report) | {"ok": report.ok})
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(RemoteFailed.exit_code)


async def _sent(settings: Settings, remote: str | None, progress: Progress) -> RemotesReport:
    async with offline_context(settings, progress) as context:
        return await send_backups(context, only=remote, at_once=True)


def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A backup's name there; 'latest': the newest there.")
    ],
    *,
    source: Annotated[str, typer.Option("--from", metavar="REMOTE", help="The remote's name.")],
    json: JsonOption = False,
) -> None:
    """Bring a backup back from a remote; a machine that has lost everything needs the settings alone."""
    settings = _with_remotes()
    with progress_shown(json=json) as progress:
        fetched = run_async(fetch_backup(settings, name, source, progress))
    if json:
        print_json(msgspec.to_builtins(fetched))
        return
    out = console()
    out.print(
        f"{fetched.name} is in {fetched.path}: {size(fetched.bytes)} in {fetched.duration_s:.1f} s, checksum right.",
        style="green",
    )
    out.print(f"Prove it, then restore: standfast backup validate {fetched.name}")


def remotes(*, json: JsonOption = False) -> None:
    """Show every remote: how many backups it has, how old the newest is, what it lacks, what is wrong."""
    states = run_async(remote_states(current_settings()))
    if json:
        print_json([msgspec.to_builtins(one) for one in states])
    elif not states:
        console().print("No remote is set: BACKUP_REMOTES names them, see docs/remotes.md.")
    else:
        _print_states(states)


def _with_remotes() -> Settings:
    settings = current_settings()
    if not settings.remotes:
        raise UsageError(
            "no remote is set", next_step="Name one in BACKUP_REMOTES; docs/remotes.md shows each kind."
        )
    return settings


def _print_report(report: RemotesReport) -> None:
    out = console()
    for one in report.remotes:
        _print_sent(out, one)
    if report.not_encrypted:
        out.print(
            f"Not sent, for they are not encrypted: {', '.join(report.not_encrypted)}. "
            "BACKUP_RECIPIENTS says whom new ones are encrypted to.",
            style="yellow",
        )


def _print_sent(out: Any, one: Sent) -> None:
    if one.error is not None:
        out.print(f"{one.remote}: failed: {one.error['message']}", style="red")
        out.print(f"  next: {one.error['next_step']}")
        if one.waiting:
            out.print(f"  waiting: {', '.join(one.waiting)}")
        return
    what = f"sent {', '.join(one.sent)} ({size(one.bytes)})" if one.sent else "nothing to send"
    out.print(f"{one.remote}: {what}; it has {one.held}. {one.duration_s:.1f} s", style="green")
    if one.removed:
        out.print(f"  removed there: {', '.join(one.removed)}", style="dim")
    for problem in one.problems:
        out.print(f"  not sent: {problem}", style="red")


def _print_states(states: list[RemoteState]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("remote", "where", "backups", "size", "newest", "age", "state"):
        table.add_column(
            name, justify="right" if name in ("backups", "size", "age") else "left", no_wrap=True
        )
    for one in states:
        is_known = one.state != "down"
        table.add_row(
            one.name,
            one.where,
            str(one.backups) if is_known else "",
            size(one.bytes) if is_known else "",
            one.newest or "",
            duration(one.newest_age_s) if one.newest_age_s is not None else "",
            one.state,
            style=_LOOKS[one.state] if one.state != "up to date" else None,
        )
    out = console()
    out.print(table)
    for one in states:
        for line in filter(None, (one.message, *one.unusable)):
            out.print(f"{one.name}: {line}")
        if one.waiting:
            out.print(f"{one.name}: lacks {', '.join(one.waiting)}", style="yellow")
