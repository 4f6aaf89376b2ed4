"""How what is to be scanned or typed is shown: lines for a pipe, a window that follows, JSON lines, picture files.

Invariant: a QR is drawn whole or not at all, and one that is over is not left standing where it can be taken away.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from standfast.cli.output import print_json
from standfast.errors import UsageError
from standfast.sessions.events import Event
from standfast.sessions.qr import TERMINAL_STYLE, qr_lines, qr_png, qr_svg

_REMARKS = 3
_FRAME_LINES = 3 + _REMARKS


def grouped(code: str) -> str:
    """A pairing code as people read it: ABCD-EFGH."""
    return "-".join(code[i : i + 4] for i in range(0, len(code), 4))


class Presenter(Protocol):
    """Shows one pairing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def qr(self, qr: str, ttl_s: float) -> None: ...

    def code(self, code: str, ttl_s: float) -> None: ...

    def remark(self, event: Event, text: str) -> None: ...

    def done(self, event: Event) -> None: ...


class Lines:
    """For a pipe or a plain terminal: everything stays."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...

    def qr(self, qr: str, ttl_s: float) -> None:
        self._console.print(_drawn(qr_lines(qr)), crop=False, soft_wrap=True)
        self._say(f"Scan it with WhatsApp > Linked devices within {ttl_s:g} s.")

    def code(self, code: str, ttl_s: float) -> None:
        self._say(f"Code {grouped(code)}, valid {ttl_s:g} s:")
        self._say("enter it in WhatsApp > Linked devices > Link with phone number.")

    def remark(self, event: Event, text: str) -> None:
        self._say(text)

    def done(self, event: Event) -> None:
        self._say(f"{event.company} is paired and connected.")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Window(Lines):
    """For a terminal: a screen of its own, where each prompt takes the place of the one before."""

    def __init__(self, console: Console, company: str) -> None:
        super().__init__(console)
        self._company = company
        self._remarks: list[str] = []
        self._prompt: tuple[str, str, float] | None = None
        self._live = Live(self, console=console, screen=True, refresh_per_second=2)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()
        for remark in self._remarks:
            self._say(remark)

    def qr(self, qr: str, ttl_s: float) -> None:
        self._prompted("qr", qr, ttl_s)

    def code(self, code: str, ttl_s: float) -> None:
        self._prompted("code", code, ttl_s)

    def remark(self, event: Event, text: str) -> None:
        self._remarks.append(text)
        if event.kind != "state":
            self._prompt = None
        self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._prompted_now(console)
        for remark in self._remarks[-_REMARKS:]:
            yield Text(f" {remark}", style="yellow")
        yield Text(" Ctrl-C breaks it off.", style="dim")

    def _prompted(self, kind: str, value: str, ttl_s: float) -> None:
        self._prompt = (kind, value, time.monotonic() + ttl_s)
        self._live.refresh()

    def _prompted_now(self, console: Console) -> RenderResult:
        kind, value, ends_at = self._prompt or ("", "", 0.0)
        left_s = int(ends_at - time.monotonic())
        if left_s < 0:
            yield Text(f" {self._company}: waits for WhatsApp …", style="dim")
        elif kind == "code":
            yield Text(f"\n   {grouped(value)}\n", style="bold")
            where = "WhatsApp > Linked devices > Link with phone number"
            yield Text(f" {self._company}: enter it in {where} ({left_s} s)", style="cyan")
        else:
            where = f"scan it with WhatsApp > Linked devices ({left_s} s)"
            yield from _fitting(console, qr_lines(value), f" {self._company}: {where}")


class Documents:
    """For a program: one JSON document a line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...

    def qr(self, qr: str, ttl_s: float) -> None:
        print_json({"event": "qr", "qr": qr, "ttl_s": ttl_s}, one_line=True)

    def code(self, code: str, ttl_s: float) -> None:
        print_json({"event": "pairing_code", "code": grouped(code), "ttl_s": ttl_s}, one_line=True)

    def remark(self, event: Event, text: str) -> None:
        more: dict[str, Any] = {}
        if event.data.get("another_number"):
            more["another_number"] = event.data["another_number"]
        print_json({"event": event.kind, "message": text, **more}, one_line=True)

    def done(self, event: Event) -> None:
        print_json({"event": "open", "company": event.company, "jid": event.data["jid"]}, one_line=True)


class Pictures:
    """The QR as files that only their owner can read; removed at the end, when no phone would take them any more."""

    def __init__(self, png: Path | None, svg: Path | None) -> None:
        self._files: list[tuple[Path, Callable[[str], bytes]]] = []
        if png is not None:
            self._files.append((png, qr_png))
        if svg is not None:
            self._files.append((svg, qr_svg))
        self._written: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for path in self._written:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def show(self, qr: str) -> None:
        """Write this QR in the place of the one before. `UsageError` where that cannot be done."""
        for path, draw in self._files:
            try:
                _replace(path, draw(qr))
            except OSError as error:
                raise UsageError(
                    f"cannot write the QR to {path}: {error.strerror}",
                    next_step="Name a file that can be written.",
                ) from error
            self._written.add(path)


def _replace(path: Path, content: bytes) -> None:
    """Whoever looks at the file sees one whole picture or the other."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.touch(0o600)
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _drawn(lines: list[str]) -> Text:
    return Text("\n".join(lines), style=TERMINAL_STYLE, no_wrap=True)


def _fitting(console: Console, lines: list[str], title: str) -> RenderResult:
    columns, rows = len(lines[0]), len(lines) + _FRAME_LINES
    if console.width >= columns and console.height >= rows:
        yield _drawn(lines)
        yield Text(title, style="cyan")
        return
    yield Text(
        f" The QR needs a window of {columns} columns and {rows} lines. Enlarge it, make its letters smaller, "
        "or use --png FILE.",
        style="yellow",
    )
