"""`standfast runbook`: what to do when PostgreSQL is in trouble, with this installation's own names.

Thin: the pages and the choice among them are `service.runbook`'s. Invariant: it prints a page whatever is down, broken
or malformed, and changes nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from standfast.authstate.company import company_id
from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.errors import StandfastError
from standfast.service.runbook.pages import SCENARIOS, Filling, page, start_page
from standfast.service.runbook.situation import Situation
from standfast.settings import Settings, state_directory

NOBODY = "nobody is named: set STANDFAST_RUNBOOK_CONTACTS"
_WIDTH = 80


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("runbook")(runbook)


def runbook(
    scenario: Annotated[
        str | None,
        typer.Argument(metavar="[SCENARIO]", help=f"One of {', '.join(one.name for one in SCENARIOS)}."),
    ] = None,
    *,
    company: Annotated[
        str | None, typer.Option("--company", help="Whose name stands in the commands.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what to do when PostgreSQL is in trouble: which scenario fits now, or one of them in full."""
    settings, why = _settings()
    wanted = company_id(company) if company else None
    if scenario is not None:
        filling = _filling(settings, wanted)
        text = page(scenario, filling)
        _print_scenario(scenario, text, filling, as_json=json)
        return
    found, unseen = _look()
    filling = _filling(settings, wanted or (found.company if found else None))
    remarks = [one.message for one in (why, unseen) if one is not None]
    if json:
        print_json(_wire(found, filling, remarks))
    else:
        _print_start(found, filling, remarks)


def _settings() -> tuple[Settings | None, StandfastError | None]:
    """The settings, or why they cannot be had: a page is printed all the same."""
    try:
        return current_settings(), None
    except StandfastError as error:
        return None, error


def _look() -> tuple[Situation | None, StandfastError | None]:
    from standfast.cli.health_source import current_health
    from standfast.service.runbook.situation import situation

    try:
        return situation(run_async(current_health())), None
    except StandfastError as error:
        return None, error


def _filling(settings: Settings | None, company: str | None) -> Filling:
    if settings is None:
        return Filling()
    names = {
        "acme": company,
        "/var/lib/standfast": str(state_directory()),
        "/var/backups/standfast": str(settings.backup_directory),
        "alpha": settings.node_name,
    }
    return Filling(
        {shown: name for shown, name in names.items() if name},
        settings.runbook_contacts or NOBODY,
        _measured(settings),
    )


def _measured(settings: Settings) -> dict[str, str]:
    """How long each disaster took to recover from when it was last tried, in a sentence."""
    from standfast.drill.history import last_measured

    return {one.disaster: _sentence(one) for one in last_measured(settings)}


def _sentence(measured: Any) -> str:
    from standfast.cli.output import duration

    if not measured.is_known:
        return f"{measured.by}. Measure it: standfast drill"
    took = "" if measured.rto_s is None else f"{measured.rto_s:.1f} s for {measured.means}"
    if measured.rpo_s is None:
        lost = f"; {measured.messages_lost} messages lost" if measured.messages_lost else ""
    else:
        lost = (
            "; nothing lost"
            if measured.rpo_s == 0
            else f"; what came back was {duration(measured.rpo_s)} old"
        )
    return f"{took}{lost} ({measured.by})"


def _wire(found: Situation | None, filling: Filling, remarks: list[str]) -> dict[str, Any]:
    return {
        "scenario": found.scenario if found else None,
        "because": found.because if found else None,
        "facts": list(found.facts) if found else [],
        "commands": list(found.commands) if found else [],
        "company": found.company if found else None,
        "contacts": filling.contacts,
        "remarks": remarks,
        "scenarios": [one._asdict() for one in SCENARIOS],
        "text": start_page(filling),
    }


def _print_scenario(name: str, text: str, filling: Filling, *, as_json: bool) -> None:
    if not as_json:
        _print_markdown(text)
        return
    print_json({"scenario": name, "contacts": filling.contacts, "measured": filling.measured, "text": text})


def _print_start(found: Situation | None, filling: Filling, remarks: list[str]) -> None:
    out = console(wraps=True)
    for remark in remarks:
        out.print(f"Cannot be looked at: {remark}", style="yellow")
    if found is not None:
        _print_found(out, found)
    out.print()
    _print_markdown(start_page(filling))


def _print_found(out: Any, found: Situation) -> None:
    for fact in found.facts:
        out.print(f"Now: {fact}.")
    if found.scenario is None:
        out.print(f"Scenario: {found.because}.", style="bold")
    else:
        out.print(f"Scenario: {found.scenario}, because {found.because}.", style="bold red")
    out.print("First, and without any risk:")
    for command in found.commands:
        out.print(f"    {command}", soft_wrap=True)
    if found.scenario is not None:
        out.print(f"Then read: standfast runbook {found.scenario}", style="bold")


def _print_markdown(text: str) -> None:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    out = console(wraps=True)
    if not out.is_terminal or out.is_dumb_terminal:
        # A page that goes to a file, or to somebody, is best as it was written.
        console().print(text.rstrip("\n"))
        return
    from rich.markdown import Markdown

    out.width = min(out.width, _WIDTH)
    os.environ.setdefault("LESS", "-FRX")  # colours are drawn, and a page that fits is left on the screen
    with out.pager(styles=True):
        out.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
