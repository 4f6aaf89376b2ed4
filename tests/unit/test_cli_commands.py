"""That a command imports what it needs and no more, and that nothing is told differently for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from standfast.cli.commands import COMMANDS, commands_of
from standfast.errors import SettingsError
from standfast.settings import COMMAND_LINE, load_settings, state_directory
from tests.cli_support import own_surroundings

MODULES = sorted({listed.module for listed in COMMANDS})
HEAVY = {"pydantic_settings", "psycopg", "structlog", "phonenumbers", "standfast.settings.model"}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.mark.parametrize("module", MODULES)
def test_the_list_says_what_the_module_has(module: str) -> None:
    """Name by name, and help line by help line; a command that is not listed could not be called."""
    listed = {one.name: one.help for one in COMMANDS if one.module == module}
    found = {name: command.get_short_help_str(500) for name, command in commands_of(module).items()}
    assert found == listed


def test_no_command_is_listed_twice() -> None:
    """The second would hide the first."""
    assert len({listed.name for listed in COMMANDS}) == len(COMMANDS)


def imported(*args: str) -> set[str]:
    """The modules that a process has imported once it has run `standfast` with these arguments."""
    script = (
        "import json, sys\nfrom standfast.cli.main import main\n"
        f"main({list(args)!r})\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    return set(json.loads(ran.stderr.splitlines()[-1]))


def test_help_imports_no_command() -> None:
    """That is why it is there at once."""
    modules = imported("--help")
    assert not modules & HEAVY
    assert not {name for name in modules if name.startswith(("standfast.service", "standfast.vault"))}


def test_a_command_imports_no_other_ones() -> None:
    """The tokens' file needs neither PostgreSQL nor a session."""
    modules = imported("tokens", "list")
    assert "standfast.cli.tokens" in modules
    assert not {"psycopg", "standfast.cli.database", "standfast.cli.messages"} & modules


def test_completion_knows_every_command(tmp_path: Path) -> None:
    """Names and help as `--help` lists them, and a command's own options."""
    surroundings = {**os.environ, "_STANDFAST_COMPLETE": "complete_bash", "COMP_CWORD": "1"}

    def completed(words: str, position: int) -> list[str]:
        ran = subprocess.run(
            [sys.executable, "-c", "from standfast.cli.main import run\nrun()"],
            env={**surroundings, "COMP_WORDS": words, "COMP_CWORD": str(position)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return ran.stdout.split()

    assert completed("standfast sta", 1) == ["status", "start", "stats"]
    assert "--watch" in completed("standfast sessions --", 2)
    assert completed("standfast tokens re", 2) == ["revoke"]


@pytest.mark.parametrize(
    ("dotenv", "environment", "option"),
    [
        (None, None, None),
        ("STANDFAST_STATE_DIR=from/dotenv\n", None, None),
        ('export STANDFAST_STATE_DIR="${HOME}/x y" # where\n', None, None),
        ("STANDFAST_STATE_DIR=\n", None, None),
        ("STANDFAST_STATE_DIR=a\n", "~/b", None),
        ("STANDFAST_STATE_DIR=a\n", "", None),
        ("STANDFAST_STATE_DIR=a\n", "b", Path("c")),
    ],
)
def test_the_state_directory_is_that_of_the_settings(
    dotenv: str | None, environment: str | None, option: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found without them, and the same."""
    monkeypatch.delenv("STANDFAST_STATE_DIR")
    if dotenv is not None:
        Path(".env").write_text(dotenv)
    if environment is not None:
        monkeypatch.setenv("STANDFAST_STATE_DIR", environment)
    before = COMMAND_LINE.set({"STANDFAST_STATE_DIR": option})
    try:
        assert state_directory() == load_settings().state_dir
    finally:
        COMMAND_LINE.reset(before)


def test_a_broken_dotenv_is_told_where_it_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody knows what it would have said of the state directory; where that is known, it is of no concern."""
    Path(".env").write_text("this is no setting\n")
    assert state_directory() == tmp_path / "state"
    monkeypatch.delenv("STANDFAST_STATE_DIR")
    with pytest.raises(SettingsError, match=r"line 1 of \.env"):
        state_directory()
