"""`standfast migrate` and `standfast stats`: the tables, brought up and looked at."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from standfast.authstate.company import Company, company_id
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json, size
from standfast.errors import CompanyUnknown
from standfast.postgres.migrations import MigrationPlan
from standfast.postgres.migrations import migrate as migrate_database
from standfast.postgres.statistics import Statistics
from standfast.postgres.statistics import statistics as read_statistics
from standfast.service.database import open_database
from standfast.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("migrate")(migrate)
    app.command("stats")(stats)


def migrate(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    json: JsonOption = False,
) -> None:
    """Bring the database to this version's schema; it only adds, and adopts tables that a Node bot filled."""
    plan = run_async(_migrate(current_settings(), dry_run=dry_run))
    if json:
        print_json(plan.as_dict() | {"dry_run": dry_run})
    else:
        _print_plan(plan, dry_run=dry_run)


def stats(
    company: Annotated[str | None, typer.Argument(help="One company; all of them if left out.")] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Count what PostgreSQL holds: records, keys by type and age, sizes."""
    wanted = company_id(company) if company is not None else None
    found = run_async(_stats(current_settings(), wanted))
    if json:
        print_json(found.as_dict())
    else:
        _print_stats(console(), found)


async def _migrate(settings: Settings, *, dry_run: bool) -> MigrationPlan:
    async with open_database(settings, purpose="migrate") as database:
        return await migrate_database(database, dry_run=dry_run)


async def _stats(settings: Settings, company: Company | None) -> Statistics:
    async with open_database(settings, purpose="stats") as database:
        found = await read_statistics(database, company)
    if company is not None and not found.records:
        raise CompanyUnknown(f"company {company!r} has no auth state")
    return found


def _print_plan(plan: MigrationPlan, *, dry_run: bool) -> None:
    out = console()
    for step in plan.steps:
        out.print(f"{'would ' if dry_run else ''}{step.title}", style="bold" if dry_run else "")
        if dry_run:
            out.print(f"{step.sql.strip()};\n".replace(";;", ";"), style="dim")
    if plan.is_empty:
        out.print("The database is up to date.")
    elif not dry_run:
        out.print("Done.")
    for notice in plan.notices:
        out.print(f"note: {notice.message}\nnext: {notice.next_step}", style="yellow")


def _print_stats(out: Console, found: Statistics) -> None:
    whose = found.company or ("1 company" if found.companies == 1 else f"{found.companies:,} companies")
    out.print(f"{whose}: {found.records:,} records ({found.creds:,} creds, {found.keys:,} keys)\n")
    types = _table("key type", "keys", "size")
    for key_type, count in found.keys_by_type.items():
        types.add_row(key_type, f"{count:,}", size(found.value_bytes_by_type[key_type]))
    ages = _table("last written", "keys")
    for age, count in found.keys_by_age.items():
        ages.add_row(age, f"{count:,}")
    for table in (types, ages):
        out.print(table)
        out.print()
    parts = f"tables {size(found.table_bytes)}, indexes {size(found.index_bytes)}"
    out.print(f"On disk, all companies: {size(found.total_bytes)} ({parts})")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, min_width=24)
    for name in others:
        table.add_column(name, justify="right", min_width=8)
    return table
