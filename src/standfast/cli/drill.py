"""`standfast drill`: an outage rehearsed; `list` and `show` tell of those that were.

Thin: the commands are in modules of their own.
"""

from __future__ import annotations

import typer

from standfast.cli import drill_history

app = typer.Typer(
    name="drill",
    help="Outages that were rehearsed, and what recovering took: list, show.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    drill_history.register(app)
    parent.add_typer(app)
