"""What tests of the command line share: surroundings of their own, and `standfast` called as a person would."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from standfast.cli import main as cli
from standfast.settings import Settings
from standfast.settings.model import name_of


@contextlib.contextmanager
def own_surroundings(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[None]:
    """No settings but the test's own, `directory` as the working one with a state directory in it; logging is given
    back as it was."""
    for name in tuple(os.environ):
        if name.startswith(("PG", "POSTGRES_", "STANDFAST_")) or name in map(name_of, Settings.model_fields):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STANDFAST_STATE_DIR", str(directory / "state"))
    monkeypatch.chdir(directory)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


class CommandLine:
    """Calls `standfast` in this process; `start` runs it as a process of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path) -> Ran:
        self._capsys.readouterr()
        code = cli.main([str(arg) for arg in args])
        said = self._capsys.readouterr()
        return Ran(code, said.out, said.err)

    def start(self, *args: str | Path, output: Path | None = None) -> subprocess.Popen[str]:
        """A process whose output goes to pipes, or to the file `output`; the caller ends it."""
        argv = [sys.executable, "-m", "standfast", *map(str, args)]
        if output is None:
            piped = subprocess.PIPE
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=piped, stderr=piped, text=True)
        with output.open("w") as file:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, text=True)
