"""`standfast backup`: backups made, looked at, proven, sent elsewhere and put back.

Each module of this package whose name begins with `backup_` adds its commands to the group by `register(group)`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

import typer

from standfast import cli

app = typer.Typer(
    name="backup",
    help="Backups of the database: run, list, show, prove, copy elsewhere, put back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    for module in sorted(one.name for one in pkgutil.iter_modules(cli.__path__, "standfast.cli.")):
        if module.startswith("standfast.cli.backup_"):
            import_module(module).register(app)
    parent.add_typer(app)
