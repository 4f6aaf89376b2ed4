"""How far a job is, shown by a command."""

from __future__ import annotations

import io
import sys

import pytest

from standfast.cli.progress import Lines, progress_shown


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_are_few() -> None:
    """Elsewhere than on a terminal: a line when a step begins, and figures at most once in the interval."""
    out, clock = io.StringIO(), _Clock()
    lines = Lines(out, interval_s=5, clock=clock)
    lines.step("dump", 2_000_000, "bytes")
    for _ in range(100):
        clock.now += 0.125
        lines.advance(10_000)
    lines.step("validate")
    lines.end()
    assert out.getvalue().splitlines()[0] == "dump: 2.0 MB"
    figures = [line for line in out.getvalue().splitlines() if " of 2.0 MB" in line]
    assert 1 <= len(figures) <= 2
    assert out.getvalue().splitlines()[-2:] == ["dump: done in 12 s", "validate"]


def test_nothing_is_shown_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With `--json` a job is silent on both streams."""
    with progress_shown(json=True) as progress:
        progress.step("dump", 10, "keys")
        progress.note("odd")
    assert capsys.readouterr() == ("", "")


def test_a_closed_stderr_ends_no_job() -> None:
    """Whoever watched has left: the job goes on."""
    gone = io.StringIO()
    gone.close()
    lines = Lines(gone)
    lines.step("dump")
    lines.note("odd")
    lines.end()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the step, its figures and notes are drawn, on stderr."""

    class _Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = _Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress_shown() as progress:
        progress.step("dump", 1_000, "keys")
        progress.advance(400)
        progress.note("something odd")
        progress.step("validate")
    assert "something odd" in out.getvalue()
    assert "dump" in out.getvalue()
