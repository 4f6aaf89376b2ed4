"""`standfast backup list` and `show`: which backups there are, and what is known of each.

Thin: `jobs.backup.catalogue` reads; PostgreSQL is not needed.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from standfast.cli.context import current_settings
from standfast.cli.output import JsonOption, console, duration, print_json, size
from standfast.jobs.backup.catalogue import Backup, Catalogue

_LOOKS = {"good": "green", "unproven": "yellow", "bad": "red"}
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A backup's name, from 'list'; 'latest': the newest.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group."""
    app.command("list")(list_)
    app.command("show")(show)


def list_(*, json: JsonOption = False) -> None:
    """List every backup, newest first: age, size, rows, state, copies elsewhere, last restore test."""
    settings = current_settings()
    found = Catalogue(settings.backup_directory).backups()
    if json:
        print_json({"root": str(settings.backup_directory), "backups": [document(one) for one in found]})
    elif not found:
        console().print(f"No backup in {settings.backup_directory}. Make one with: standfast backup run")
    else:
        _print_list(found)


def show(name: NameArgument, *, json: JsonOption = False) -> None:
    """Show a backup: its manifest, and what was found out about it since."""
    backup = Catalogue(current_settings().backup_directory).get(name)
    if json:
        print_json(document(backup, whole=True))
    else:
        _print_backup(backup)


def document(backup: Backup, *, whole: bool = False) -> dict[str, Any]:
    """A backup as JSON; `whole`: with every company and every entry of its history."""
    found: dict[str, Any] = {"name": backup.name, "path": str(backup.path), "state": backup.state}
    if backup.error is not None:
        found["error"] = backup.error.as_wire()
    manifest = backup.manifest
    if manifest is not None:
        told = msgspec.to_builtins(manifest)
        if not whole:
            told["companies"] = len(manifest.companies)
        found |= {"age_s": round(_age_s(backup), 1), "rows": rows_of(backup), "manifest": told}
    return found | {"record": msgspec.to_builtins(backup.record)}


def rows_of(backup: Backup) -> int:
    """Creds and keys."""
    companies = backup.manifest.companies.values() if backup.manifest else ()
    return sum(one.creds + sum(one.keys.values()) for one in companies)


def _age_s(backup: Backup) -> float:
    return time.time() - backup.manifest.snapshot_at if backup.manifest else 0.0


def _print_list(found: list[Backup]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("name", "age", "size", "rows", "state"):
        table.add_column(name, justify="right" if name in ("age", "size", "rows") else "left", no_wrap=True)
    for name in ("kept", "copies", "restored"):
        table.add_column(name, no_wrap=True)
    for backup in found:
        manifest = backup.manifest
        if manifest is None:
            table.add_row(backup.name, "", "", "", "bad", "", "", "", style="red")
            continue
        table.add_row(
            backup.name,
            duration(max(0.0, _age_s(backup))),
            size(manifest.content.bytes),
            f"{rows_of(backup):,}",
            backup.state,
            manifest.kinds[-1],  # the longer one
            _copies(backup),
            _tested(backup),
            style=_LOOKS[backup.state] if backup.state != "good" else None,
        )
    out = console()
    out.print(table)
    for backup in found:
        if backup.error is not None:
            out.print(f"{backup.name}: {backup.error.message}", style="red")
    out.print("See one with: standfast backup show NAME", style="dim")


def _print_backup(backup: Backup) -> None:
    manifest = backup.manifest
    assert manifest is not None, "Catalogue.get raises where there is none"
    content, out = manifest.content, console()
    packed = f"{content.compression}, {'age' if content.encrypted else 'not encrypted'}"
    out.print(f"{backup.name} ({', '.join(manifest.kinds)}): {backup.state}")
    out.print(f"  in        {backup.path}")
    out.print(f"  content   {when(manifest.snapshot_at)}, sentinel {manifest.sentinel}")
    out.print(f"  of        {manifest.database}, PostgreSQL {manifest.server_version}")
    out.print(
        f"  made by   {manifest.node}, Standfast {manifest.standfast_version}, {manifest.client_version}"
    )
    out.print(f"  file      {content.file}: {size(content.bytes)} of {size(content.plain_bytes)} ({packed})")
    out.print(f"  sha256    {content.sha256}")
    out.print(
        f"  companies {len(manifest.companies):,} with {rows_of(backup):,} rows; digest {manifest.digest}"
    )
    for name, count in manifest.tables.items():
        out.print(f"    {name}: {count:,}")
    for validation in backup.record.validations:
        verdict = "ok" if validation.ok else "failed"
        sealed = " (checksum only: no identity here opens it)" if validation.sealed else ""
        out.print(f"  validated {when(validation.at)}: {verdict}{sealed} {validation.message}".rstrip())
    for test in backup.record.restore_tests:
        out.print(
            f"  restored  {when(test.at)}: {_outcome(test.ok, test.rto_s, test.rpo_s)} {test.message}".rstrip()
        )
    for remote, upload in backup.record.uploads.items():
        state = when(upload.at) if upload.at else f"not yet, {upload.attempts} attempts {upload.message}"
        out.print(f"  copy      {remote}: {state}".rstrip())


def _copies(backup: Backup) -> str:
    uploads = backup.record.uploads
    return f"{sum(one.at is not None for one in uploads.values())}/{len(uploads)}" if uploads else "-"


def _tested(backup: Backup) -> str:
    if not backup.record.restore_tests:
        return "-"
    last = backup.record.restore_tests[-1]
    return _outcome(last.ok, last.rto_s, last.rpo_s)


def _outcome(ok: bool, rto_s: float, rpo_s: float) -> str:
    return f"{'ok' if ok else 'failed'}, RTO {rto_s:.1f} s, RPO {duration(rpo_s)}"


def when(at: float) -> str:
    """A time as people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
