"""`standfast simulator`: the simulator as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.cli_support import CommandLine, own_surroundings

TIMEOUT_S = 30.0


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@contextmanager
def running(standfast: CommandLine, *args: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process and what its ready line says."""
    with standfast.start("simulator", "--json", *args) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def ends(pid: int) -> bool:
    """Whether a process is gone before the deadline."""
    deadline = time.monotonic() + TIMEOUT_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_it_serves_until_it_is_told_to_end(standfast: CommandLine, number: signal.Signals, code: int) -> None:
    """Its admin API answers at the address that it prints; a signal ends it and its Node."""
    with running(standfast) as (process, ready):
        assert ready["url"].startswith("ws://127.0.0.1:")
        assert httpx.get(f"{ready['admin']}/stats", timeout=TIMEOUT_S, trust_env=False).status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=TIMEOUT_S) == code
        assert ends(ready["pid"])


def test_its_node_does_not_outlive_it(standfast: CommandLine) -> None:
    """Also after SIGKILL, which nobody can handle."""
    with running(standfast) as (process, ready):
        os.kill(process.pid, signal.SIGKILL)
        assert ends(ready["pid"])


def test_a_taken_port_has_its_own_exit_code(standfast: CommandLine) -> None:
    """11, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = standfast("simulator", "--port", str(taken.getsockname()[1]))
    assert ran.code == 11
    assert "choose another" in ran.err


def test_its_accounts_belong_to_one_at_a_time(standfast: CommandLine) -> None:
    """Two on one directory would write over each other: the second is refused with 10."""
    with running(standfast) as (process, _):
        ran = standfast("simulator")
        assert ran.code == 10
        assert f"in use by pid {process.pid} (simulator" in ran.err


def test_without_a_fitting_node_it_says_so(
    standfast: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """12, before anything is started."""
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v18.20.4\n")
    old.chmod(0o755)
    monkeypatch.setenv("NODE_BINARY", str(old))
    ran = standfast("simulator")
    assert ran.code == 12
    assert "v18.20.4" in ran.err
