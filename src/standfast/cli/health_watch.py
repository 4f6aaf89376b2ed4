"""`standfast health --watch`: the picture kept up to date, on a screen of its own or as a document a line.

Invariant: the terminal is given back as it was, however the watching ends; a look that fails or takes long is said and
ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from standfast.cli.health_figures import STYLES
from standfast.cli.health_source import Source
from standfast.cli.health_view import HealthView
from standfast.cli.output import duration, print_json
from standfast.cli.terminal import keys
from standfast.errors import StandfastError
from standfast.health.document import Health, as_wire

TICK_S = 1.0


async def tell_health(interval_s: float, *, verbose: bool) -> None:
    """One document a line, until it is ended."""
    loop = asyncio.get_running_loop()
    with contextlib.closing(Source()) as source:
        while True:
            due = loop.time() + interval_s
            print_json(as_wire(await source.health(verbose=verbose)), one_line=True)
            await asyncio.sleep(max(0.0, due - loop.time()))


async def watch_health(console: Console, interval_s: float, *, verbose: bool) -> None:
    """Draw until q is typed."""
    screen = Screen(interval_s, verbose)
    looking = asyncio.ensure_future(screen.look())
    try:
        with (
            screen.wakes_on_resize(),
            keys(screen.typed),
            Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
        ):
            while not screen.left:
                live.update(screen, refresh=True)
                await screen.changes(TICK_S)
                if looking.done():
                    looking.result()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@dataclass(slots=True)
class _Picture:
    health: Health
    taken: float  # on the monotonic clock


class Screen:
    """What is drawn: the last picture with its age, and how it comes about."""

    def __init__(self, interval_s: float, verbose: bool) -> None:
        self.left = False
        self._interval_s = interval_s
        self._verbose = verbose
        self._picture: _Picture | None = None
        self._error: StandfastError | None = None
        self._away_since: float | None = None
        self._back_since: float | None = None
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._looks = False

    def typed(self, key: str) -> None:
        """q ends it, v tells more or less, r looks now."""
        if key == "q":
            self.left = True
        elif key == "v":
            self._verbose = not self._verbose
            self._wanted.set()
        elif key == "r":
            self._wanted.set()
        self._changed.set()

    async def changes(self, timeout_s: float) -> None:
        """Until there is something new to draw, at most so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        self._changed.clear()

    @contextlib.contextmanager
    def wakes_on_resize(self) -> Iterator[None]:
        """Draw anew at once where the window changes its size."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)

    async def look(self) -> None:
        """Every interval, and when it is wanted, until cancelled."""
        with contextlib.closing(Source()) as source:
            while True:
                self._wanted.clear()
                self._looks = True
                self._changed.set()
                try:
                    self._take(await source.health(verbose=self._verbose))
                except StandfastError as error:
                    self._error = error
                finally:
                    self._looks = False
                    self._changed.set()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), self._interval_s)

    def _take(self, health: Health) -> None:
        now, answers = time.monotonic(), health.measured_by == "service"
        if answers and self._away_since is not None:
            self._away_since, self._back_since = None, now
        elif not answers:
            self._back_since = None
            if self._picture is not None and self._away_since is None:
                self._away_since = now
        self._picture, self._error = _Picture(health, now), None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._picture is None:
            yield Text(
                str(self._error) if self._error else "Looking …", style="red" if self._error else "dim"
            )
        else:
            yield from self._drawn(console, options, self._picture)

    def _drawn(self, console: Console, options: ConsoleOptions, picture: _Picture) -> RenderResult:
        """As much as the window has room for: whole, or each section's main rows, and of those the first lines."""
        note = self._note(time.monotonic() - picture.taken)
        lines: list[list[Segment]] = []
        for brief in (False, True):
            view = HealthView(picture.health, time.time(), verbose=self._verbose, brief=brief, note=note)
            lines = console.render_lines(view, options, pad=False)
            if len(lines) <= console.height:
                break
        if len(lines) > console.height:
            more = Text("enlarge the window for the rest", style="dim", no_wrap=True, overflow="crop")
            lines = [*lines[: console.height - 1], *console.render_lines(more, options, pad=False)]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line

    def _note(self, age_s: float) -> Text:
        note = Text(no_wrap=True, overflow="crop")
        if self._error is not None:
            note.append(f"{self._error.message}. ", style=STYLES["error"])
        elif self._away_since is not None:
            away = duration(time.monotonic() - self._away_since)
            note.append(f"The service has not answered for {away}. ", style=STYLES["critical"])
        elif self._back_since is not None and time.monotonic() - self._back_since < 3 * self._interval_s:
            note.append("The service is back. ", style=STYLES["ok"])
        aged = (
            "looking …"
            if self._looks and age_s > self._interval_s
            else f"{duration(age_s)} old"
            if age_s >= 1
            else "just looked"
        )
        return note.append(
            f"{aged}, every {self._interval_s:g} s; q quits, v verbose, r refreshes", style="dim"
        )
