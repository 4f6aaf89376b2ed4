"""`standfast drill --here`: the drill on the running installation, with one test company and one contact.

Thin: `drill.here_plan` says what would be done, `drill.here` does it.
"""

from __future__ import annotations

from pathlib import Path

from standfast.cli.asking import can_ask, confirmed
from standfast.cli.context import current_settings, run_async
from standfast.cli.drill_end import ended
from standfast.cli.output import console
from standfast.cli.progress import progress_shown
from standfast.drill.here_plan import HerePlan, plan_here
from standfast.drill.record import DrillRecord
from standfast.errors import UsageError
from standfast.service.client import connect
from standfast.settings import Settings
from standfast.state_dir import StateDirectory


def rehearse_here(
    company: str | None, contact: str | None, minutes: float, report: Path | None, *, yes: bool, json: bool
) -> None:
    """Say what WhatsApp will see, ask, rehearse, keep the record, and end as the drill did."""
    settings = current_settings()
    plan = run_async(_planned(settings, company, contact, 60 * minutes))
    if not yes:
        if not can_ask(as_json=json):
            raise UsageError("this needs a confirmation, and nobody can be asked", next_step="Add --yes.")
        console(wraps=True).print(plan.told)
        if not confirmed("Rehearse?"):
            return
    ended(settings, run_async(_rehearsed(settings, plan, json=json)), report, json=json)


async def _planned(settings: Settings, company: str | None, contact: str | None, outage_s: float) -> HerePlan:
    async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
        return await plan_here(client, settings, company, contact, outage_s)


async def _rehearsed(settings: Settings, plan: HerePlan, *, json: bool) -> DrillRecord:
    from standfast.drill.here import drill_here

    with progress_shown(json=json) as progress:
        async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
            return await drill_here(client, plan, settings, progress)
