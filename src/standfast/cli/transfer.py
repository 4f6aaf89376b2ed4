"""`standfast export` and `standfast import`: Baileys' multi-file folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from standfast.authstate.company import company_id
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.service.transfer import Imported, export_company, import_company

CompanyArgument = Annotated[str, typer.Argument(metavar="COMPANY", help="Company id.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    company: CompanyArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in DIR.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a company's auth state as a folder that Baileys' useMultiFileAuthState reads."""
    checked = company_id(company)
    done = run_async(export_company(current_settings(), checked, folder.absolute(), overwrite=overwrite))
    if json:
        told = {"company": done.company, "folder": str(done.folder), "keys": done.keys, "source": done.source}
        print_json(told)
        return
    out = console()
    out.print(f"Exported {done.company}: creds and {done.keys:,} keys, to {done.folder}")
    if done.source == "replica":
        out.print(
            "Taken from this node's replica: PostgreSQL lacks the latest of it, or is away.", style="yellow"
        )
    out.print("It holds everything that is needed to be this device: keep it as a secret.", style="yellow")


def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A useMultiFileAuthState folder or an export.")
    ],
    company: CompanyArgument,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the company's auth state; what it has now is archived.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Store a folder's auth state in PostgreSQL as a company's."""
    checked = company_id(company)
    done = run_async(import_company(current_settings(), folder.absolute(), checked, replace=replace))
    if json:
        print_json(_document(done))
    else:
        _print(done)


def _document(done: Imported) -> dict[str, object]:
    return {
        "company": done.company,
        "keys": done.keys,
        "changed": done.changed,
        "added": done.added,
        "deleted": done.deleted,
        "archive": str(done.archive) if done.archive else None,
    }


def _print(done: Imported) -> None:
    out = console()
    out.print(f"Imported {done.company}: creds and {done.keys:,} keys")
    if done.changed or done.deleted:
        out.print(
            f"Since the export: {done.changed} keys changed, {done.added} added, {done.deleted} deleted"
        )
    if done.archive:
        out.print(f"What it had before is in {done.archive}")
    out.print(
        f"Stop every bot that still uses the folder, then: standfast start {done.company}", style="yellow"
    )
