"""`standfast handover`: sessions go to another living node, as before an upgrade of this one.

Thin: the service gives each session and takes it back where that fails.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, NamedTuple

import typer

from standfast.cli.asking import YesOption, asked, can_ask, confirmed
from standfast.cli.context import run_async
from standfast.cli.output import JsonOption, console, print_json
from standfast.cli.progress import progress_shown
from standfast.errors import NotFound, SessionNotOpen, StandfastError, UsageError
from standfast.jobs.progress import Progress
from standfast.service.client import Client
from standfast.service.records import Session

AT_ONCE = 2  # more take hardly less time in all, and each is closed for longer
NAMED = 5
_RUNNING = ("connecting", "open")


class Row(NamedTuple):
    """What became of one session: how long it was nobody's, or why it stays."""

    company: str
    closed_s: float | None
    error: StandfastError | None


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("handover")(handover)


def handover(
    to: Annotated[
        str | None, typer.Option(metavar="NODE", help="The node's name; may be left out where there is one.")
    ] = None,
    company: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPANY", help="Only this company; may be given several times."),
    ] = None,
    *,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Give sessions to another living node, one by one, as before an upgrade."""
    node, sessions = run_async(asked(lambda client: _plan(client, to, company or [])))
    if not yes:
        _confirm(f"Hand over {len(sessions)} sessions to {node['name']}?", as_json=json)
    with progress_shown(json=json) as progress:
        rows = run_async(asked(lambda client: _hand_over(client, sessions, node, progress)))
    failure = _failure(rows, node["name"])
    if failure is None or not json:
        _show(rows, node["name"], as_json=json)
    if failure is not None:
        raise failure


def _confirm(question: str, *, as_json: bool) -> None:
    if not can_ask(as_json=as_json):
        raise UsageError("this needs a confirmation, and nobody can be asked", next_step="Add --yes.")
    if not confirmed(question):
        raise UsageError("nothing was changed", next_step="Answer y, or give --yes.")


async def _plan(client: Client, to: str | None, companies: list[str]) -> tuple[dict[str, str], list[str]]:
    """The node that goes on, and the companies whose sessions run here."""
    node = _chosen(await client.nodes(), to)
    running = [session.company for session in await client.sessions() if _runs(session)]
    missing = sorted(set(companies) - set(running))
    if missing:
        raise SessionNotOpen(
            f"no session of {', '.join(missing)} runs here",
            next_step="'standfast sessions' lists those that do.",
        )
    return node, companies or running


def _runs(session: Session) -> bool:
    return session.wanted and session.state in _RUNNING


def _chosen(nodes: list[dict[str, str]], to: str | None) -> dict[str, str]:
    found = [one for one in nodes if to in (None, one["name"])]
    names = ", ".join(sorted(one["name"] for one in nodes)) or "none"
    if not found:
        raise NotFound(
            f"no other living node {'' if to is None else f'is called {to!r} '}(there are: {names})",
            next_step="Start it: 'standfast up' on the same database, with a STANDFAST_NODE_NAME of its own.",
        )
    if len(found) > 1:
        raise UsageError(
            f"several other nodes live: {names}",
            next_step="Name one with --to; give each a STANDFAST_NODE_NAME of its own.",
        )
    return found[0]


async def _hand_over(
    client: Client, companies: list[str], node: dict[str, str], progress: Progress
) -> list[Row]:
    turns = asyncio.Semaphore(AT_ONCE)
    progress.step(f"handing over to {node['name']}", len(companies), "sessions")

    async def one(company: str) -> Row:
        async with turns:
            try:
                given = await client.hand_over(company, node["node"], node["name"])
            except StandfastError as error:
                return Row(company, None, error)
            finally:
                progress.advance(1)
        return Row(company, given["closed_s"], None)

    return await asyncio.gather(*(one(company) for company in companies))


def _show(rows: list[Row], name: str, *, as_json: bool) -> None:
    given = {row.company: row.closed_s for row in rows if row.closed_s is not None}
    if as_json:
        print_json({"to": name, "closed_s": given})
        return
    longest = f"; each was nobody's for {max(given.values()):.2f} s at most" if given else ""
    console().print(f"{len(given)} of {len(rows)} sessions handed over to {name}{longest}.", soft_wrap=True)


def _failure(rows: list[Row], name: str) -> StandfastError | None:
    """What is to be said of those that stay; the exit code is that of the first one's reason."""
    stay = [row for row in rows if row.error is not None]
    if not stay:
        return None
    first = stay[0].error
    assert first is not None
    companies = ", ".join(row.company for row in stay[:NAMED]) + (" …" if len(stay) > NAMED else "")
    first.message = f"{len(stay)} of {len(rows)} sessions stay here ({companies}): {first.message}"
    first.facts |= {"to": name, "stay": [row.company for row in stay]}
    return first
