"""`standfast emergency status`: whether this node stands on files, how well, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import typer

from standfast.cli.context import current_settings, run_async
from standfast.cli.output import JsonOption, console, duration, print_json
from standfast.errors import StandfastError
from standfast.jobs.emergency.mode import Mode, ModeFile
from standfast.postgres.observing import NOBODY
from standfast.postgres.pool import Database
from standfast.service.client import connect
from standfast.service.database import reachable_options
from standfast.service.offline import service_runs
from standfast.settings import Settings
from standfast.state_dir import StateDirectory

_ANSWER_TIMEOUT_S = 3.0


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("status")(status)


def status(*, json: JsonOption = False) -> None:
    """Show whether this node stands on files, since when, and what to do."""
    found = run_async(_found(current_settings()))
    if json:
        print_json(found)
    else:
        _print(found)


async def _found(settings: Settings) -> dict[str, Any]:
    mode = await asyncio.to_thread(ModeFile(settings.state_dir).read)
    runs = service_runs(settings)
    seen = await _of_service(settings) if runs else None
    answers = seen["answered"] if seen is not None else await _answers(settings)
    return {
        "on_files": mode is not None,
        "service": "runs" if runs else "does not run",
        **(_of_mode(mode) if mode is not None else {}),
        "mirror": seen["mirror"] if seen is not None else None,
        "postgresql_answers": answers,
        "next_step": _next_step(mode, runs=runs, answers=answers),
    }


def _of_mode(mode: Mode) -> dict[str, Any]:
    sources: dict[str, int] = {}
    for placed in mode.companies.values():
        sources[placed.source] = sources.get(placed.source, 0) + 1
    return {
        "id": mode.id,
        "stage": mode.stage,
        "since": mode.since,
        "reason": mode.reason,
        "folders": mode.root,
        "companies": len(mode.companies),
        "sources": sources,
        "done": len(mode.done),
    }


async def _of_service(settings: Settings) -> dict[str, Any] | None:
    """What the service says of its files; None where it stands on PostgreSQL, or does not answer."""
    with contextlib.suppress(StandfastError):
        async with connect(StateDirectory(settings.state_dir).gateway_socket) as client:
            document = (await client.status()).document
            return document.get("files") or {
                "answered": document["vault"].get("state") in ("online", "recovering"),
                "mirror": None,
            }
    return None


async def _answers(settings: Settings) -> bool | None:
    """Whether PostgreSQL answers a command; None: an embedded one runs with the service alone."""
    options = reachable_options(settings)
    if options is None:
        return None
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S), Database(options, NOBODY.queries) as database:
            await database.ping()
    except (StandfastError, TimeoutError):
        return False
    return True


def _next_step(mode: Mode | None, *, runs: bool, answers: bool | None) -> str:
    if mode is None:
        away = "PostgreSQL is gone for long? standfast emergency to-files"
        return away if answers is False else "Nothing."
    if mode.stage == "to-postgres":
        return "The way back was begun and is not done. Go on: standfast emergency to-postgres"
    if answers:
        return "PostgreSQL answers. Once it is well: standfast emergency to-postgres"
    start = "" if runs else "Start the service (standfast up): it begins on files. "
    return f"{start}Bring PostgreSQL back; then: standfast emergency to-postgres"


def _print(found: dict[str, Any]) -> None:
    out = console()
    answers = {True: "answers", False: "does not answer", None: "is not known to answer"}
    if not found["on_files"]:
        out.print(f"This node stands on PostgreSQL, which {answers[found['postgresql_answers']]}.")
    else:
        _print_mode(found)
        out.print(f"PostgreSQL {answers[found['postgresql_answers']]}, and is left alone.")
    out.print(f"The service {found['service']}.")
    out.print(f"Do: {found['next_step']}", style="bold")


def _print_mode(found: dict[str, Any]) -> None:
    out = console()
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["since"]))
    age = duration(max(0.0, time.time() - found["since"]))
    out.print(f"This node stands on files since {began} ({age}).", style="bold yellow")
    sources = ", ".join(f"{count:,} from {source}" for source, count in sorted(found["sources"].items()))
    out.print(f"Companies: {found['companies']:,} ({sources})" if sources else "Companies: none")
    out.print(f"Folders:   {found['folders']}")
    if found["reason"]:
        out.print(f"Reason:    {found['reason']}")
    if found["mirror"]:
        out.print(f"Mirror:    {_mirror_words(found['mirror'])}")
    if found["stage"] == "to-postgres":
        out.print(f"The way back was begun: {found['done']:,} of {found['companies']:,} companies are back.")


def _mirror_words(mirror: dict[str, Any]) -> str:
    behind, conflicts = mirror.get("behind", 0), mirror.get("conflicts", [])
    words = "the folders have everything" if not behind else f"{behind:,} folders lack something"
    if mirror.get("failing"):
        words += ", and cannot be written (see the alert mirror_stopped)"
    if conflicts:
        words += f"; to be decided with 'emergency take': {', '.join(conflicts)}"
    return words
