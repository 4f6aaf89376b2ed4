"""`standfast config`: what is set, and where each value came from."""

from __future__ import annotations

from typing import Any

import typer
from rich.text import Text

from standfast.cli.context import current_settings
from standfast.cli.output import JsonOption, console, print_json
from standfast.settings import Settings, SettingView


def register(app: typer.Typer) -> None:
    app.command("config")(config)


def config(*, json: JsonOption = False) -> None:
    """Show every setting with its source; secrets are masked."""
    settings = current_settings()
    if json:
        print_json(_document(settings))
    else:
        _print(settings)


def _document(settings: Settings) -> dict[str, Any]:
    return {
        "settings": {view.name: {"value": view.value, "source": view.source} for view in settings.views()},
        "database": "embedded" if settings.database_is_embedded else "external",
        "remarks": list(settings.ignored),
    }


def _print(settings: Settings) -> None:
    out = console()
    views = settings.views()
    width = max(len(view.name) for view in views)
    for view in views:
        out.print(_line(view, width))
    where = (
        f"embedded, in {settings.state_dir}"
        if settings.database_is_embedded
        else "the server named above or by libpq's PG* variables"
    )
    out.print(f"\nDatabase: {where}")
    for remark in settings.ignored:
        out.print(f"Note: {remark}", style="yellow")


def _line(view: SettingView, width: int) -> Text:
    value = (
        "-"
        if view.value is None
        else str(view.value).lower()
        if isinstance(view.value, bool)
        else str(view.value)
    )
    line = Text(f"{view.name:<{width}}  ")
    line.append(f"{value:<30}", style="" if view.source == "default" else "bold")
    return line.append(f"  {view.source}", style="dim")
