"""The command line's frame: errors, exit codes, JSON, and what it never shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from standfast import __version__
from standfast.cli import main as cli
from standfast.cli.context import Terminated
from standfast.errors import BY_CODE, DatabaseUnavailable, StandfastError
from standfast.settings import Settings, load_settings
from standfast.settings.model import name_of
from tests.cli_support import own_surroundings

LEAVES = sorted(BY_CODE.values(), key=lambda cls: cls.exit_code)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], list[str]]:
    """Arguments of a command that raises the given error."""

    def prepare(error: BaseException) -> list[str]:
        app = typer.Typer()

        @app.command()
        def fail(*, json: bool = False) -> None:
            raise error

        monkeypatch.setattr(cli, "app", app)
        return []

    return prepare


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_each_error_has_its_exit_code(
    cls: type[StandfastError],
    raising: Callable[[BaseException], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Message and next step on stderr, nothing on stdout, and the code of its kind."""
    assert cli.main(raising(cls("it broke"))) == cls.exit_code
    out, err = capsys.readouterr()
    assert err == f"error: it broke\nnext: {cls.default_next_step}\n"
    assert out == ""


def test_no_two_errors_share_an_exit_code() -> None:
    """A script can tell every kind from every other, and from what the shell and signals use."""
    codes = [cls.exit_code for cls in LEAVES] + [cli.Unexpected.exit_code, 130, 141, 143]
    assert len(set(codes)) == len(codes)


def test_an_error_is_json_where_json_was_asked_for(
    raising: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """One document on stdout, in the form that crosses the gateway."""
    error = DatabaseUnavailable("gone", next_step="wait", cause="refused")
    assert cli.main([*raising(error), "--json"]) == DatabaseUnavailable.exit_code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": error.as_wire()}
    assert err == ""


def test_an_unexpected_failure_shows_its_class_only(
    raising: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may hold what a driver was given; the traceback is for those who ask."""
    assert cli.main(raising(ValueError("password=hush"))) == 70
    _, err = capsys.readouterr()
    assert err.startswith(
        "error: unexpected failure (ValueError)\nnext: Run it again with STANDFAST_LOG=debug"
    )
    assert "hush" not in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback_redacted(
    raising: Callable[[BaseException], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """STANDFAST_LOG=debug tells where it happened, still without secrets."""
    monkeypatch.setenv("STANDFAST_LOG", "debug")
    assert cli.main(raising(ValueError("password=hush"))) == 70
    _, err = capsys.readouterr()
    assert "Traceback" in err
    assert "hush" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (BrokenPipeError(), 141),
        (typer.Abort(), 130),
        (SystemExit(5), 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_ends_that_are_no_errors(error: BaseException, code: int) -> None:
    """Signals and a reader that left end the command quietly, as shells expect."""
    script = (
        "import sys\nimport typer\nfrom standfast.cli import main as cli\n"
        "from standfast.cli.context import Terminated\n"
        "cli.app = typer.Typer()\n@cli.app.command()\ndef fail() -> None:\n"
        f"    raise {'typer.Abort()' if isinstance(error, typer.Abort) else repr(error)}\n"
        "sys.exit(cli.main([]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


def test_of_a_group_the_error_that_is_ours_is_told(
    raising: Callable[[BaseException], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Task groups wrap what their tasks raised."""
    group = ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("more", [DatabaseUnavailable("gone")])])
    assert cli.main(raising(group)) == DatabaseUnavailable.exit_code
    assert "error: gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nope"], "No such command 'nope'"),
        (["config", "--nope"], "No such option"),
        (["stats", "two words"], "'two words' is not a company id"),
        (["send", "acme"], "Missing argument"),
        (["simulator", "--port", "70000"], "less than or equal to 65535"),
    ],
)
def test_wrong_usage_ends_with_2(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was wrong, and where to read what is right."""
    assert cli.main(args) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert told in err
    assert "\nnext: " in err
    assert out == ""


def test_wrong_usage_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Also what the option parser refuses."""
    assert cli.main(["config", "--json", "--nope"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr and with the code of wrong usage: nothing was done."""
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for command in ("up", "config", "migrate", "stats", "simulator"):
        assert f"\n  {command} " in err


def test_the_version_needs_no_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version and help work where the settings are broken."""
    monkeypatch.setenv("POSTGRES_PORT", "broken")
    assert cli.main(["--version"]) == 0
    assert cli.main(["config", "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"standfast {__version__}\n")
    assert cli.main(["config"]) == 3


def config(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `config --json` prints."""
    assert cli.main(["config", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_config_shows_values_and_sources(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every setting, in text and in JSON, with where it came from."""
    Path(".env").write_text("DB_CLEANUP_RETENTION_DAYS=9\n")
    monkeypatch.setenv("USE_PAIRING_CODE", "true")
    document = config(capsys)
    assert set(document["settings"]) == {name_of(field) for field in Settings.model_fields}
    assert document["settings"]["DB_CLEANUP_RETENTION_DAYS"] == {"value": 9, "source": ".env"}
    assert document["settings"]["USE_PAIRING_CODE"] == {"value": True, "source": "environment"}
    assert document["database"] == "embedded"
    assert cli.main(["--state-dir", str(tmp_path / "other"), "config"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("STANDFAST_STATE_DIR"))
    assert line.split() == ["STANDFAST_STATE_DIR", str(tmp_path / "other"), "command", "line"]
    assert f"Database: embedded, in {tmp_path / 'other'}" in text


def test_an_option_of_one_call_does_not_outlive_it(tmp_path: Path) -> None:
    """`main` can be called within a program that has settings of its own."""
    assert cli.main(["--state-dir", str(tmp_path / "other"), "config"]) == 0
    assert load_settings().state_dir == tmp_path / "state"


def test_config_masks_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In text and in JSON."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://bot:hush@db/wa?sslpassword=hush")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "123:hush")
    monkeypatch.setenv("TELEGRAM_CHAT_ID", "1")
    monkeypatch.setenv("WHATSAPP_PHONE_NUMBER", "79990000001")
    assert config(capsys)["database"] == "external"
    assert cli.main(["config"]) == 0
    assert cli.main(["config", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "hush" not in out + err
    assert "7999000" not in out + err
    assert "postgresql://bot:********@db/wa" in out


def test_config_remarks_on_misspelt_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is obeyed by nobody is said so."""
    monkeypatch.setenv("POSTGRES_DB", "bot")
    assert cli.main(["config"]) == 0
    assert "did you mean POSTGRES_DATABASE?" in capsys.readouterr().out


def test_a_command_for_the_service_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    """No service: its own exit code, within the connect deadline."""
    assert cli.main(["sessions"]) == 9
    assert "standfast up" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["config"], ["config", "--json"], ["--version"]])
def test_a_reader_that_leaves_is_no_error(args: list[str]) -> None:
    """As in `standfast config | true`: the code that shells expect, and no complaint."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-m", "standfast", *args],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, "")
