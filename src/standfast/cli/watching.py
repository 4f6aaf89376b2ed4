"""`standfast sessions --watch`: the list of sessions, kept up to date until a key or a signal ends it.

Invariant: the terminal is given back as it was, however the watching ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from standfast.cli.output import print_json
from standfast.cli.terminal import keys
from standfast.service.client import Client, connect
from standfast.service.records import Session
from standfast.service.streams import EventStream

DRAW_INTERVAL_S = 0.5
# Counts of messages sent are no events; they are asked for.
ASK_INTERVAL_S = 2.0
Draw = Callable[[list[Session]], RenderableType]


class Watched:
    """Sessions as they were last told, each with when that was."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, Session]] = {}

    def take(self, session: Session) -> None:
        self._told[session.company] = (time.monotonic(), session)

    def now(self) -> list[Session]:
        """By company; `since_s` has gone on meanwhile."""
        now = time.monotonic()
        return [
            msgspec.structs.replace(session, since_s=session.since_s + now - at)
            for _, (at, session) in sorted(self._told.items())
        ]


async def watch_sessions(console: Console, draw: Draw, *, as_json: bool) -> None:
    """Draw the sessions until q is typed; without a terminal, or as JSON, tell each change on a line."""
    async with connect() as client, client.events(kinds=("state",)) as events:
        if as_json or not console.is_terminal or console.is_dumb_terminal:
            await _tell(client, events, console, as_json=as_json)
        else:
            await _draw(client, events, console, draw)


async def _tell(client: Client, events: EventStream, console: Console, *, as_json: bool) -> None:
    for session in await client.sessions():
        _line(console, msgspec.to_builtins(session), as_json=as_json)
    async for event in events:
        _line(console, event.data, as_json=as_json)


def _line(console: Console, row: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(row, one_line=True)
        return
    why = f" ({row['reason']})" if row["reason"] else ""
    console.print(f"{row['company']}: {row['state']}{why}", markup=False, highlight=False, soft_wrap=True)


async def _draw(client: Client, events: EventStream, console: Console, draw: Draw) -> None:
    watched, left = Watched(), asyncio.Event()
    working = [asyncio.ensure_future(work) for work in (_ask(client, watched), _hear(events, watched))]
    leaving = asyncio.ensure_future(left.wait())
    try:
        with (
            keys(lambda key: left.set() if key == "q" else None),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while not left.is_set():
                live.update(Group(draw(watched.now()), Text("\nq ends it.", style="dim")), refresh=True)
                done, _ = await asyncio.wait(
                    {*working, leaving}, timeout=DRAW_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()  # the service is gone: that is how the command ends
    finally:
        for task in (*working, leaving):
            task.cancel()
        await asyncio.gather(*working, leaving, return_exceptions=True)


async def _ask(client: Client, watched: Watched) -> None:
    while True:
        for session in await client.sessions():
            watched.take(session)
        await asyncio.sleep(ASK_INTERVAL_S)


async def _hear(events: EventStream, watched: Watched) -> None:
    async for event in events:
        watched.take(msgspec.convert(event.data, Session))
