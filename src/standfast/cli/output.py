"""How commands speak: people read stdout and stderr, programs read one JSON document on stdout.

Invariant: with `--json`, stdout holds JSON and nothing else, also where the command fails.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from standfast.errors import StandfastError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


class ReaderGone(Exception):
    """Whoever read our output has left, as `head` does. Not an OSError: typer and rich end those with exit code 1."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise ReaderGone


def console(*, wraps: bool = False) -> Console:
    """stdout for people; never highlights, nor wraps unless told so, so that what it prints can be piped. Without a
    terminal, on a dumb one and where NO_COLOR is set it is plain text."""
    out = _Console(highlight=False, markup=False, emoji=False, soft_wrap=not wraps)
    if not wraps or not (out.is_dumb_terminal or out.no_color):
        return out
    return _Console(highlight=False, markup=False, emoji=False, color_system=None)


def print_json(document: Any, *, one_line: bool = False) -> None:
    """One JSON document on stdout, at once; on one line where more may follow."""
    import orjson

    option = orjson.OPT_APPEND_NEWLINE | (0 if one_line else orjson.OPT_INDENT_2)
    try:
        sys.stdout.write(orjson.dumps(document, option=option).decode())
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def print_error(error: StandfastError, *, as_json: bool) -> None:
    """The error and its next step: two lines on stderr, or `{"error": …}` on stdout."""
    if as_json:
        print_json({"error": error.as_wire()})
        return
    sys.stderr.write(f"error: {error.message}\nnext: {error.next_step}\n")


def size(count: int) -> str:
    """Bytes as people read them: '154 kB'."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as people read them: '4 s', '3 m 20 s', '2 h 05 m', '3 d 4 h'."""
    s = int(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} m {s % 60:02d} s"
    if s < 86400:
        return f"{s // 3600} h {s % 3600 // 60:02d} m"
    return f"{s // 86400} d {s % 86400 // 3600} h"
