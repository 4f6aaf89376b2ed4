"""The doctor's runner, report and picture: every check ends in a line, and no line holds a secret."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.cli.diagnosis import lines
from standfast.errors import DatabaseUnavailable
from standfast.service.doctor.patient import Patient
from standfast.service.doctor.results import Report, Result, ok, skipped, unknown, warning, wrong
from standfast.service.doctor.runner import Check, run
from tests.doctoring import patient

SECRET = "hunter2-marker"


def report(*results: Result) -> Report:
    return Report(results, 0.1)


def test_a_check_that_hangs_is_a_line_and_keeps_what_it_had_found() -> None:
    """The report is there by the deadline, with the results from before the check hung."""
    over = threading.Event()

    def hangs(_patient: Patient) -> Iterator[Result]:
        yield ok("state.space", "space", "seen")
        over.wait(10)

    began = time.monotonic()
    found = run([Check("state.sync", "disk", hangs, deadline_s=0.1)], patient())
    over.set()
    assert time.monotonic() - began < 1
    assert [(one.check, one.outcome) for one in found.results] == [
        ("state.space", "ok"),
        ("state.sync", "unknown"),
    ]
    assert "no answer within 0.1 s" in found.results[1].message


def test_checks_run_side_by_side() -> None:
    """A slow check does not hold up another: each sees the other running."""
    together = threading.Barrier(2, timeout=5)

    def look(_patient: Patient) -> Iterator[Result]:
        together.wait()
        yield ok("node.binary", "Node.js", "seen")

    found = run([Check("node.binary", "Node.js", look), Check("node.packages", "bridge", look)], patient())
    assert [one.outcome for one in found.results] == ["ok", "ok"]


def test_a_check_that_fails_is_unknown_and_no_crash() -> None:
    """What it raised is told: our errors with their next step, others by their kind alone."""

    def ours(_patient: Patient) -> Iterator[Result]:
        raise DatabaseUnavailable("gone", next_step="bring it back")
        yield

    def theirs(_patient: Patient) -> Iterator[Result]:
        raise ValueError(SECRET)
        yield

    first, second = run(
        [Check("node.binary", "a", ours), Check("node.packages", "b", theirs)], patient()
    ).results
    assert (first.outcome, first.message, first.mend) == (
        "unknown",
        "could not be checked: gone",
        "bring it back",
    )
    assert second.outcome == "unknown"
    assert "ValueError" in second.message
    assert SECRET not in second.message


def test_no_secret_of_the_settings_gets_into_a_line() -> None:
    """Whoever puts a password, token or URL into a message or mend: it is masked in the report."""
    who = patient(
        database_url=f"postgresql://bot:{SECRET}-1@127.0.0.1/x",
        telegram_bot_token=f"123:{SECRET}-2",
        telegram_chat_id="1",
        notify_urls=f"json://localhost/{SECRET}-3, json://localhost/{SECRET}-4",
    )
    secrets = [f"{SECRET}-1", f"123:{SECRET}-2", f"json://localhost/{SECRET}-4"]

    def tells(_patient: Patient) -> Iterator[Result]:
        for secret in secrets:
            yield wrong("alerts.sentry", "Sentry", f"it said {secret}!", f"use {secret}")

    wire = str(run([Check("alerts.sentry", "Sentry", tells)], who).as_wire())
    assert SECRET not in wire


def test_the_exit_code_is_that_of_the_worst_result() -> None:
    """0 ok, 1 warning, 2 wrong, 3 unknown; what is known to be bad outweighs what is not known."""
    good, late = ok("node.binary", "a", "b"), unknown("node.binary", "a", "b")
    alarm, bad = warning("node.binary", "a", "b", "c"), wrong("node.binary", "a", "b", "c")
    codes = [
        report(*results).exit_code
        for results in (
            (),
            (good, skipped("node.binary", "a", "b")),
            (good, late),
            (late, alarm),
            (alarm, bad, late),
        )
    ]
    assert codes == [0, 0, 3, 1, 2]


def test_the_picture_fits_its_width_and_a_pipe_gets_whole_lines() -> None:
    """Words are wrapped below their column at 80 columns, and not at all where they go to a file; what is to be pasted
    is never broken."""
    long = " ".join(["word"] * 60)
    paste = "rm -r " + " ".join(["/a/path"] * 20)
    shown = report(
        wrong("postgres.login", "login", long, f"Do {long}.\n{paste}"), ok("state.sync", "disk", "fine")
    )
    at_80 = [line.plain for line in lines(shown, width=80)]
    assert " " * 23 + f"→ {paste}" in at_80
    assert max(len(line) for line in at_80 if paste not in line) <= 80
    assert at_80[0] == "PostgreSQL"
    assert at_80[1].startswith("  ✗ login              word word")
    assert at_80[2].startswith(" " * 23 + "word")
    piped = [line.plain for line in lines(shown, width=None)]
    assert any(line.endswith(f"{long}.") and "→" in line for line in piped)


def test_quiet_shows_only_what_is_not_ok() -> None:
    """A cron mail holds nothing that is fine."""
    shown = report(
        ok("state.sync", "disk", "fine"), warning("state.space", "free space", "little", "free some")
    )
    text = "\n".join(line.plain for line in lines(shown, width=None, quiet=True))
    assert "fine" not in text
    assert "free some" in text


def test_what_lies_in_a_directory_that_is_shut_to_us_is_not_called_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks that look inside are skipped there, and run where it is open, or not there yet."""

    def look(_patient: Patient) -> Iterator[Result]:
        yield ok("state.files", "files", "seen")

    check = Check("state.files", "files", look, inside=True)
    who = patient(state_dir=tmp_path / "state")
    assert run([check], who).results[0].outcome == "ok"
    (tmp_path / "state").mkdir()
    assert run([check], who).results[0].outcome == "ok"
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    assert run([check], who).results[0].outcome == "skipped"
