"""How far a job is, shown to whoever runs it by command.

Invariant: it speaks on stderr alone, so that stdout holds the command's answer; on a terminal it leaves nothing behind
but the notes.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from standfast.cli.output import duration, size
from standfast.jobs.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_INTERVAL_S = 5.0


@contextlib.contextmanager
def progress_shown(*, json: bool = False) -> Iterator[Progress]:
    """A bar on a terminal, plain lines elsewhere, nothing with `--json`."""
    if json:
        yield Silent()
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        lines = Lines(sys.stderr)
        try:
            yield lines
        finally:
            lines.end()


class Lines:
    """One line when a step begins, one with its figures every few seconds, one when it took long. Steps that follow one
    another at once share a line's time: no more lines than steps, no more figures than one in `interval_s`."""

    def __init__(
        self,
        out: TextIO,
        *,
        interval_s: float = LINE_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._interval_s = interval_s
        self._clock = clock
        self._name = ""
        self._total: int | None = None
        self._unit = ""
        self._done = 0
        self._begun = self._told = clock()

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        """See `Progress`."""
        self.end()
        self._name, self._total, self._unit, self._done = name, total, unit, 0
        self._begun = self._told = self._clock()
        self._write(name if total is None else f"{name}: {amount(total, unit)}")

    def advance(self, done: int) -> None:
        """See `Progress`."""
        self._done += done
        now = self._clock()
        if now - self._told >= self._interval_s:
            self._told = now
            self._write(f"{self._name}: {self._figures(now)}")

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._write(text)

    def end(self) -> None:
        """The last step is done."""
        took_s = self._clock() - self._begun
        if self._name and took_s >= self._interval_s:
            self._write(f"{self._name}: done in {duration(took_s)}")
        self._name = ""

    def _figures(self, now: float) -> str:
        of = f" of {amount(self._total, self._unit)}" if self._total else ""
        return f"{amount(self._done, self._unit)}{of}, {duration(now - self._begun)}"

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads: no reason for a job to end
            self._out.write(text + "\n")
            self._out.flush()


def amount(count: int, unit: str) -> str:
    """`count` in words: bytes as sizes, anything else as a number with its unit."""
    return size(count) if unit == "bytes" else f"{count:,} {unit}".rstrip()


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=24),
        rich_progress.TextColumn("{task.fields[figures]}"),
        rich_progress.TimeElapsedColumn(),
    )
    out = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with rich_progress.Progress(*columns, console=out, transient=True) as drawn:
        yield _Drawn(drawn)


class _Drawn:
    def __init__(self, drawn: RichProgress) -> None:
        self._drawn = drawn
        self._task = drawn.add_task("", total=None, figures="", visible=False)
        self._total: int | None = None
        self._unit = ""
        self._done = 0

    def step(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._total, self._unit, self._done = total, unit, 0
        self._drawn.reset(self._task, total=total, description=name, visible=True, figures="")

    def advance(self, done: int) -> None:
        self._done += done
        elapsed_s = self._drawn.tasks[0].elapsed or 0.0
        rate = f", {amount(int(self._done / elapsed_s), self._unit)}/s" if elapsed_s >= 1 else ""
        of = f" of {amount(self._total, self._unit)}" if self._total else ""
        self._drawn.update(self._task, advance=done, figures=f"{amount(self._done, self._unit)}{of}{rate}")

    def note(self, text: str) -> None:
        self._drawn.console.print(text)
