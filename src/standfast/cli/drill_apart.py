"""`standfast drill` without `--here`: the drill on parts of its own.

Thin: `drill.plan` says how long each part lasts, `drill.run` does it.
"""

from __future__ import annotations

from pathlib import Path

import typer

from standfast.cli.asking import can_ask, confirmed
from standfast.cli.context import current_settings, run_async
from standfast.cli.drill_end import ended
from standfast.cli.progress import progress_shown
from standfast.drill.plan import PHASES, plan_of
from standfast.drill.run import DrillOptions, run_drill


def rehearse_apart(
    kinds: str, phases: list[int] | None, report: Path | None, *, fast: bool, yes: bool, json: bool
) -> None:
    """Rehearse, keep the record, write the reports, and end as the drill did."""
    named = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    plan = plan_of(fast=fast, kinds=named, phases=phases or PHASES)
    settings = current_settings()
    # Nothing but time is at stake: where nobody can answer, nobody is asked.
    asks = not (fast or yes) and can_ask(as_json=json)
    if asks and not confirmed("A full drill takes about 11 minutes, on parts of its own. Begin?"):
        raise typer.Abort
    directory = report.expanduser().absolute() if report else None
    with progress_shown(json=json) as progress:
        record = run_async(run_drill(DrillOptions(plan, directory), settings, progress))
    ended(settings, record, directory or settings.state_dir / "drills" / "reports", json=json)
