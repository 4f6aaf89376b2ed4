"""`standfast alerts`, without a service and on paper."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from standfast.alert import Alert
from standfast.cli.alerts import alert_lines
from standfast.errors import SettingsError, StateDirectoryError, TargetFailed, UsageError
from tests.alerting import alerting_of
from tests.cli_support import CommandLine, own_surroundings

OPEN = {
    "id": "1",
    "name": "session_replaced",
    "level": "error",
    "message": "acme was replaced and does not connect again by itself: another client of WhatsApp logged in",
    "since": 1_790_000_000.0,
    "last_at": 1_790_000_000.0,
    "lasts": True,
    "open": True,
    "ended": None,
    "duration_s": 200.0,
    "count": 1,
    "returns": 0,
    "company": "acme",
    "subject": "company_id=acme",
    "next_step": "Stop the other client, then 'standfast restart acme'.",
}


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    with own_surroundings(monkeypatch, tmp_path):
        yield CommandLine(capsys)


def left_behind(state_dir: Path) -> None:
    """What a service has told before it ended."""

    async def tell() -> None:
        alerting, _ = alerting_of(state_dir)
        async with alerting.open():
            alerting.take(
                Alert("outage_began", "error", "it is away", facts={"next_step": "Look."}, lasts=True)
            )
            for _ in range(3):
                alerting.take(Alert("session_deaf", "warning", "acme was deaf", {"company_id": "acme"}))

    asyncio.run(tell())


def test_without_a_service_its_file_is_read(cli: CommandLine, tmp_path: Path) -> None:
    """And that is said; the file is left as it was."""
    left_behind(tmp_path / "state")
    shown = cli("alerts")
    assert shown.code == 0
    assert "No service answers here" in shown.out
    assert "3 times  acme  session_deaf  acme was deaf" in shown.out
    assert "outage_began  it is away  Do: Look." in shown.out
    assert "1 of 2 goes on." in shown.out
    only = cli("alerts", "--open", "--json").document
    assert only["measured_by"] == "file"
    assert [(one["name"], one["open"]) for one in only["alerts"]] == [("outage_began", True)]


def test_nothing_is_said_to_be_nothing(cli: CommandLine) -> None:
    """Where no service ever ran there is no file, and nothing was told."""
    assert "Nothing was told since" in cli("alerts").out
    assert "Nothing goes on." in cli("alerts", "--open").out


def test_a_file_that_cannot_be_read_is_no_absence(cli: CommandLine, tmp_path: Path) -> None:
    """It is an error with a next step."""
    (tmp_path / "state/alerts").mkdir(parents=True)
    (tmp_path / "state/alerts/alerts.db").write_bytes(b"no database" * 500)
    shown = cli("alerts")
    assert shown.code == StateDirectoryError.exit_code
    assert "cannot be read" in shown.err


@pytest.mark.parametrize("since", ["yesterday", "40d", "-3h", ""])
def test_a_wrong_time_is_refused(cli: CommandLine, since: str) -> None:
    """Before anything is asked."""
    assert cli("alerts", f"--since={since}").code == UsageError.exit_code


def test_without_a_service_the_command_tries_the_channels(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own settings, which is said; none is an error, and so is one that cannot work."""
    nothing = cli("alerts", "test")
    assert nothing.code == SettingsError.exit_code
    assert "TELEGRAM_BOT_TOKEN" in nothing.err
    monkeypatch.setenv("STANDFAST_NOTIFY_URLS", "nonsense")
    tried = cli("alerts", "test")
    assert tried.code == TargetFailed.exit_code
    assert "No service runs here" in tried.out
    assert "it is no URL" in tried.out


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_shows_no_line_that_is_too_wide(width: int) -> None:
    """Words are wrapped below their head; what goes on says what to do."""
    lines = [line.plain for line in alert_lines(OPEN, width)]
    assert "session_replaced" in lines[0]
    assert "for 3 m 20 s" in lines[0]
    assert all(len(line) <= width for line in lines[1:])
    assert "standfast restart acme" in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "for 3 m 20 s"),
        ({"open": False, "duration_s": 5.0}, "over after 5 s"),
        ({"open": False, "lasts": False}, "once"),
        ({"open": False, "lasts": False, "count": 1_200}, "1,200 times"),
        ({"returns": 3}, "for 3 m 20 s, came back 3 times"),
    ],
)
def test_how_long_it_was(changes: dict[str, Any], words: str) -> None:
    """What lasts says for how long, what happens how often."""
    (line,) = alert_lines({**OPEN, **changes}, None)
    assert f"  {words}  acme" in line.plain
