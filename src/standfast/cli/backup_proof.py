"""`standfast backup validate` and `restore-test`: whether backups are whole, and whether they can be restored.

Thin: `jobs.backup.validate` and `jobs.backup.restore_test` decide; PostgreSQL is not needed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.cli.progress import progress_shown
from standfast.errors import BackupDamaged, StandfastError, UsageError
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.manifest import RestoreTest
from standfast.settings import Settings

if TYPE_CHECKING:
    from standfast.jobs.backup.validate import Validated

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]", help="A backup's name, from 'list'; by default the newest that is not bad."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the group."""
    app.command("validate")(validate_)
    app.command("restore-test")(restore_test_)


def validate_(
    name: NameArgument = "",
    *,
    every: Annotated[bool, typer.Option("--all", help="Look into every backup.")] = False,
    json: JsonOption = False,
) -> None:
    """Read a backup to its end: checksum, decryption, decompression, tables, rows. Exit code 26 where one is bad."""
    from standfast.jobs.backup.validate import failed

    if every and name:
        raise UsageError("--all and a name exclude one another")
    found = run_async(_validated(current_settings(), name or "latest", every=every, json=json))
    error = failed(found)
    if json:
        print_json({"ok": error is None, "validations": [_told(one) for one in found]})
    else:
        _print_validations(found)
    _end(error, json=json)


def restore_test_(
    name: NameArgument = "latest",
    *,
    without_login: Annotated[
        bool, typer.Option("--without-login", help="Start no session from it; Node is not needed then.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Restore a backup into a throwaway PostgreSQL, compare it, and log a session in to the simulator from it."""
    backup, test = run_async(_tested(current_settings(), name, with_login=not without_login, json=json))
    if json:
        print_json({"name": backup.name, "restore_test": msgspec.to_builtins(test)})
    else:
        _print_test(backup, test)
    _end(None if test.ok else BackupDamaged(f"the restore test of {backup.name} has failed"), json=json)


def _end(error: StandfastError | None, *, json: bool) -> None:
    """The JSON document has said it already, and there is only one."""
    if error is not None and json:
        raise typer.Exit(error.exit_code)
    if error is not None:
        raise error


async def _validated(settings: Settings, name: str, *, every: bool, json: bool) -> list[Validated]:
    from standfast.jobs.backup.validate import Validated, validate, validate_all
    from standfast.service.job_context import offline_context

    with progress_shown(json=json) as progress:
        async with offline_context(settings, progress) as context:
            if every:
                return await validate_all(context)
            backup = await asyncio.to_thread(Catalogue(settings.backup_directory).find, name)
            return [Validated(backup, await validate(context, backup))]


async def _tested(
    settings: Settings, name: str, *, with_login: bool, json: bool
) -> tuple[Backup, RestoreTest]:
    from standfast.jobs.backup.restore_test import restore_test
    from standfast.service.job_context import offline_context
    from standfast.service.restore_login import SimulatedLogin

    login = SimulatedLogin(settings) if with_login else None
    with progress_shown(json=json) as progress:
        backup = await asyncio.to_thread(Catalogue(settings.backup_directory).get, name)
        async with offline_context(settings, progress) as context:
            return backup, await restore_test(context, backup, login)


def _told(one: Validated) -> dict[str, Any]:
    return {"name": one.backup.name, **msgspec.to_builtins(one.validation)}


def _print_validations(found: list[Validated]) -> None:
    out = console()
    if not found:
        out.print("There is no backup yet. Make one with: standfast backup run")
    for one in found:
        validation = one.validation
        verdict = "good" if validation.ok else "bad"
        more = f": {validation.message}" if validation.message else ""
        style = None if validation.ok and not validation.sealed else "yellow" if validation.ok else "red"
        out.print(f"{one.backup.name}: {verdict} ({validation.duration_s:.1f} s){more}", style=style)


def _print_test(backup: Backup, test: RestoreTest) -> None:
    out = console()
    out.print(f"{backup.name}: {'passed' if test.ok else 'failed'}", style=None if test.ok else "red")
    out.print(f"  {test.message}")
    out.print(f"  {test.rows:,} rows of {test.companies:,} companies")
    out.print(f"  RTO {test.rto_s:.1f} s, RPO {duration(test.rpo_s)}")
    for step, seconds in test.steps.items():
        out.print(f"    {step}: {seconds:.1f} s")
