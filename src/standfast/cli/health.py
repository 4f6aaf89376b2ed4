"""`standfast health`: how everything is, from the running service or, without one, measured here.

Thin: the service and its rooms judge. Invariant: the exit code is that of the verdict, as monitoring plugins end; where
the command itself fails it is that of "unknown".
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from standfast.cli.context import run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.errors import UsageError
from standfast.health.document import Health, as_wire
from standfast.health.verdict import EXIT_CODES

WATCH_INTERVAL_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("health")(health)


def health(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Keep it up to date; q ends it, v tells more, r asks now.")
    ] = False,
    interval_s: Annotated[
        float | None,
        typer.Option("--interval", metavar="S", min=1, max=3_600, help="Seconds between looks; default 10."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With samples, statements and sessions behind it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how the service, its database and its sessions are, and what to do.

    Ends with 0: healthy, 1: warning, 2: critical, 3: unknown. With --watch and --json: one document a line.
    """
    if watch:
        _watch(WATCH_INTERVAL_S if interval_s is None else interval_s, verbose=verbose, as_json=as_json)
        return
    if interval_s is not None:
        raise UsageError("--interval is of use only with --watch", next_step="Give both, or neither.")
    from standfast.cli.health_source import current_health

    found = run_async(current_health(verbose=verbose))
    if as_json:
        print_json(as_wire(found))
    else:
        _print(found, verbose=verbose)
    raise typer.Exit(EXIT_CODES[found.verdict])


def _print(found: Health, *, verbose: bool) -> None:
    from standfast.cli.health_view import HealthView

    # Names and messages may hold what the terminal's encoding lacks.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    console(wraps=True).print(HealthView(found, time.time(), verbose=verbose))


def _watch(interval_s: float, *, verbose: bool, as_json: bool) -> None:
    from standfast.cli.health_watch import tell_health, watch_health

    if as_json:
        run_async(tell_health(interval_s, verbose=verbose))
        return
    out = console(wraps=True)
    if not out.is_terminal or out.is_dumb_terminal:
        raise UsageError(
            "--watch draws on a terminal, and here is none that can be drawn on",
            next_step="Add --json for a document a line, or call it without --watch.",
        )
    run_async(watch_health(out, interval_s, verbose=verbose))
