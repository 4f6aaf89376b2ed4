"""`standfast changelog`: the change log of this machine, listed, verified, compacted."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.table import Table

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json, size
from standfast.errors import BackupDamaged

_SHOWN = 20

app = typer.Typer(
    name="changelog",
    help="The log of every change, for 'standfast restore --at': list, verify, fetch, compact.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app)


@app.command("list")
def list_(*, json: JsonOption = False) -> None:
    """Show what the log holds: each node's span of time, segments, size, companies and gaps."""
    found = run_async(_listed())
    if json:
        print_json(found)
    elif not found:
        console().print("There is no change log here yet. 'standfast config' shows where it would lie.")
    else:
        _print_logs(found)


@app.command()
def verify(
    *,
    remote: Annotated[
        str | None, typer.Option("--remote", help="What this remote has, instead of what lies here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every segment: checksum, seal, chain. Says which span of time a lost or changed one leaves unknown."""
    found = run_async(_verified(remote))
    if json:
        print_json(found)
    else:
        _print_verified(found)
    if found["problems"]:
        raise typer.Exit(BackupDamaged.exit_code)


@app.command()
def fetch(
    *,
    remote: Annotated[str, typer.Option("--from", metavar="REMOTE", help="A remote's name.")],
    json: JsonOption = False,
) -> None:
    """Bring back from a remote what this machine lacks, of every node."""
    done = run_async(_fetched(remote))
    if json:
        print_json(done)
    else:
        console().print(
            f"{done['fetched']:,} of {done['there']:,} files ({size(done['bytes'])}) of {len(done['nodes'])} nodes "
            f"fetched from {done['remote']}"
        )


@app.command()
def compact(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    json: JsonOption = False,
) -> None:
    """Pack segments that are older than an hour, and drop what is older than STANDFAST_CHANGE_LOG_KEEP_DAYS."""
    done = run_async(_compacted(dry_run=dry_run))
    if json:
        print_json(done)
        return
    out, would = console(), "would be " if dry_run else ""
    out.print(
        f"{done['packed']:,} segments {would}packed, {done['dropped']:,} {would}dropped ({size(done['freed_bytes'])}); "
        f"files: {done['files_before']:,} before, {done['files_after']:,} after"
    )
    for reason in done["left"]:
        out.print(f"left as it is: {reason}", style="yellow")


async def _listed() -> list[dict[str, Any]]:
    from standfast.jobs.changelog.overview import overview

    return [_plain(log) for log in await overview(current_settings())]


async def _verified(remote: str | None) -> dict[str, Any]:
    from standfast.jobs.changelog.fetching import verify_remote
    from standfast.jobs.changelog.verify import verify as verify_log

    settings = current_settings()
    found = await (verify_log(settings) if remote is None else verify_remote(settings, remote))
    words = [str(problem) for problem in found.problems]
    plain: dict[str, Any] = _plain(found)
    for problem, text in zip(plain["problems"], words, strict=True):
        problem["message"] = text
    return plain


async def _fetched(remote: str) -> dict[str, Any]:
    from standfast.jobs.changelog.fetching import fetch as fetch_log

    done: dict[str, Any] = _plain(await fetch_log(current_settings(), remote))
    return done


async def _compacted(*, dry_run: bool) -> dict[str, Any]:
    from standfast.jobs.changelog.compact import compact as compact_log

    done: dict[str, Any] = _plain(await compact_log(current_settings(), dry_run=dry_run))
    return done


def _plain(document: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(document)


def _print_logs(logs: list[dict[str, Any]]) -> None:
    out = console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "from", "to", "segments", "files", "size", "companies", "gaps"):
        is_figure = name in ("segments", "files", "size", "companies", "gaps")
        table.add_column(name, justify="right" if is_figure else "left")
    for log in logs:
        table.add_row(
            log["node_name"] or log["node"][:8],
            _when(log["since"]),
            _when(log["until"]),
            f"{log['segments']:,}",
            f"{log['files']:,}",
            size(log["bytes"]),
            f"{len(log['companies']):,}",
            f"{log['gaps']:,}",
        )
    out.print(table)
    for log in logs:
        if log["error"]:
            out.print(f"{log['node_name'] or log['node']}: {log['error']}", style="red")


def _print_verified(found: dict[str, Any]) -> None:
    out = console()
    for problem in found["problems"][:_SHOWN]:
        out.print(problem["message"], style="red")
        if problem.get("reason"):
            out.print(f"  {problem['reason']}", style="dim")
    if len(found["problems"]) > _SHOWN:
        out.print(f"and {len(found['problems']) - _SHOWN:,} more: --json has them all", style="red")
    for gap in found["gaps"][:_SHOWN]:
        out.print(
            f"{gap['company']}: between {_when(gap['since'])} and {_when(gap['until'])} only the end is known",
            style="dim",
        )
    if len(found["gaps"]) > _SHOWN:
        out.print(f"and {len(found['gaps']) - _SHOWN:,} more such spans: --json has them all", style="dim")
    if found["sealed"]:
        out.print(
            f"{found['sealed']:,} segments cannot be opened with the identities of this machine: only their checksums "
            "were compared. BACKUP_IDENTITY_FILE names the file.",
            style="yellow",
        )
    style = "red" if found["problems"] else "green"
    out.print(
        f"{found['segments']:,} segments ({size(found['bytes'])}) in {found['duration_s']:.1f} s: "
        f"{len(found['problems']):,} problems, {len(found['gaps']):,} gaps",
        style=style,
    )


def _when(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
