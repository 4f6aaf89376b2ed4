"""`standfast quarantine`: writes that another owner overtook, and what becomes of them.

Thin: the service decides, or, where none runs, the vault opened here.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json, size
from standfast.errors import UsageError
from standfast.service.client import connect
from standfast.service.offline import local_decisions, local_replica, service_runs
from standfast.settings import Settings
from standfast.state_dir import StateDirectory
from standfast.vault.decisions import entries_of

IdArgument = Annotated[int, typer.Argument(metavar="ID", help="Number of the entry, from 'list'.", min=1)]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Verb = Literal["list", "show", "apply", "discard"]

app = typer.Typer(
    name="quarantine",
    help="Writes that were overtaken by another owner of their company: list, show, apply, discard.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app)


@app.command("list")
def list_(*, json: JsonOption = False) -> None:
    """List every entry: whose writes, since when, how many, why."""
    entries = run_async(_decided("list"))
    if json:
        print_json(entries)
    elif not entries:
        console().print("The quarantine is empty.")
    else:
        _print_entries(entries)


@app.command()
def show(entry: IdArgument, *, json: JsonOption = False) -> None:
    """Show an entry: its keys by type, and how they compare with what PostgreSQL has."""
    found = run_async(_decided("show", id=entry))
    if json:
        print_json(found)
    else:
        _print_entry(found)


@app.command()
def apply(
    entry: Annotated[
        str, typer.Argument(metavar="ID|FILE", help="An entry's number, or a file that 'discard' wrote.")
    ],
    *,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Merge an entry over what PostgreSQL has; what is there now is exported first."""
    what: dict[str, int | str] = (
        {"id": int(entry)} if entry.isdecimal() else {"file": str(Path(entry).absolute())}
    )
    _confirm(f"Merge {entry} over what PostgreSQL has?", yes)
    done = run_async(_decided("apply", **what))
    if json:
        print_json(done)
        return
    out = console()
    out.print(f"Applied to {done['company']}: {done['keys']:,} keys; PostgreSQL has them.")
    if done["archive"]:
        out.print(f"What was there before is in {done['archive']}")
    out.print(f"Start it again: standfast start {done['company']}", style="yellow")


@app.command()
def discard(entry: IdArgument, *, yes: YesOption = False, json: JsonOption = False) -> None:
    """Give an entry up; it is exported first, so that 'apply FILE' can take that back."""
    _confirm(f"Give up entry {entry}?", yes)
    done = run_async(_decided("discard", id=entry))
    if json:
        print_json(done)
        return
    console().print(
        f"Discarded: {done['batches']:,} batches of {done['company']}. Exported to {done['archive']}"
    )


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this needs a confirmation, and nobody can be asked", next_step="Add --yes.")
    typer.confirm(question, abort=True, err=True)


async def _decided(verb: Verb, **params: int | str) -> Any:
    settings = current_settings()
    if service_runs(settings):
        async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
            return await client.quarantine(verb, **params)
    return await _decided_here(settings, verb, params)


async def _decided_here(settings: Settings, verb: Verb, params: dict[str, int | str]) -> Any:
    if verb == "list":
        async with local_replica(settings, "quarantine") as replica:
            return entries_of(replica) if replica else []
    async with local_decisions(settings, "quarantine") as decisions:
        if decisions is None:
            raise UsageError(
                f"there is no vault in {settings.state_dir}",
                next_step="Name the state directory of the service with --state-dir.",
            )
        if verb == "show":
            return await decisions.show(int(params["id"]))
        if verb == "discard":
            return (await decisions.discard(int(params["id"]))).as_wire()
        if "file" in params:
            return (await decisions.apply_file(Path(str(params["file"])))).as_wire()
        return (await decisions.apply(int(params["id"]))).as_wire()


def _print_entries(entries: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "company", "since", "batches", "size", "epoch", "overtaken by", "why"):
        table.add_column(name, justify="right" if name in ("id", "batches", "size", "epoch") else "left")
    for entry in entries:
        table.add_row(
            str(entry["id"]),
            entry["company"],
            _when(entry["at"]),
            f"{entry['batches']:,}",
            size(entry["bytes"]),
            str(entry["epoch"]),
            _owner(entry),
            entry["reason"],
        )
    console().print(table)
    console().print("See one with: standfast quarantine show ID", style="dim")


def _print_entry(entry: dict[str, Any]) -> None:
    out = console()
    out.print(f"Entry {entry['id']} of {entry['company']}, since {_when(entry['at'])}: {entry['reason']}")
    out.print(
        f"{entry['batches']:,} batches ({size(entry['bytes'])}) under epoch {entry['epoch']}, "
        f"overtaken by {_owner(entry)}"
    )
    if entry["cleared"]:
        out.print("It begins by deleting every key of the company.", style="yellow")
    if entry["creds"]:
        out.print("It holds creds.")
    for row in entry["keys"]:
        more = row["set"] + row["deleted"] - len(row["ids"])
        ids = ", ".join(row["ids"]) + (f" and {more} more" if more > 0 else "")
        out.print(f"  {row['type']}: {row['set']} set, {row['deleted']} deleted: {ids}")
    _print_comparison(entry)


def _print_comparison(entry: dict[str, Any]) -> None:
    out, compared = console(), entry["compared"]
    if compared is None:
        out.print("PostgreSQL cannot be asked now, so nobody knows what it has of this.", style="yellow")
        return
    out.print(
        f"PostgreSQL has {compared['same']} of these just so, {compared['different']} differently, "
        f"and lacks {compared['absent']}."
    )
    if not compared["different"] and not compared["absent"]:
        out.print(f"Nothing is lost by: standfast quarantine discard {entry['id']}", style="green")
    else:
        out.print(
            "Apply it where this node was the one connected to WhatsApp last; discard it where the other one was. "
            "docs/vault.md says more.",
            style="yellow",
        )


def _owner(entry: dict[str, Any]) -> str:
    return f"epoch {entry['fenced_by']}" if entry["fenced_by"] else "another owner"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
