"""`standfast emergency`: stand on files while PostgreSQL is gone, and go back.

Thin: the jobs decide, a running service does what concerns its sessions.
"""

from __future__ import annotations

import typer

from standfast.cli import emergency_return, emergency_status, emergency_to_files

app = typer.Typer(
    name="emergency",
    help="Stand on files while PostgreSQL is gone, and go back: to-files, to-postgres, status.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    for module in (emergency_to_files, emergency_return, emergency_status):
        module.register(app)
    parent.add_typer(app)
