"""Commands on the embedded database: alone, at once, and beside a running service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from standfast.state_dir import StateDirectory
from tests.cli_support import CommandLine, own_surroundings

END_TIMEOUT_S = 30.0


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "state")


@pytest.fixture
def standfast(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(capsys)


@pytest.fixture
def service(standfast: CommandLine, state: StateDirectory) -> Iterator[subprocess.Popen[str]]:
    """A running `standfast up --gateway-only`."""
    with standfast.start("up", "--gateway-only") as process:
        try:
            wait_until(lambda: state.gateway_socket.exists() or process.poll() is not None)
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"not so within {END_TIMEOUT_S:g} s"
        time.sleep(0.02)


def servers(state: StateDirectory) -> list[psutil.Process]:
    """Processes of PostgreSQL that work in the state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name().startswith("postgres") and process.cwd() == str(state.postgres_dir):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_two_migrations_at_once_wait_for_each_other(standfast: CommandLine, state: StateDirectory) -> None:
    """On an empty state directory both end well: one does it, the other finds it done; nothing stays behind."""
    both = [standfast.start("migrate", "--json") for _ in range(2)]
    said = [process.communicate(timeout=END_TIMEOUT_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(bool(json.loads(out)["steps"]) for out, _ in said) == [False, True]
    assert servers(state) == []
    assert state.holder() is None


def test_a_running_service_shares_its_database(
    standfast: CommandLine, service: subprocess.Popen[str], state: StateDirectory
) -> None:
    """A command uses the service's server, and does not stop it."""
    before = servers(state)
    assert before
    ran = standfast("stats", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["records"] == 0
    assert service.poll() is None
    assert before[0].is_running()


def test_a_second_service_is_refused(standfast: CommandLine, service: subprocess.Popen[str]) -> None:
    """10, with the pid of the one that holds the state directory; that one goes on."""
    ran = standfast("up", "--gateway-only")
    assert ran.code == 10
    assert f"in use by pid {service.pid}" in ran.err
    assert service.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_service_that_is_told_to_end_leaves_nothing(
    service: subprocess.Popen[str], state: StateDirectory, number: signal.Signals
) -> None:
    """Within 5 s: no process, no socket, no lock."""
    began = time.monotonic()
    service.send_signal(number)
    service.wait(timeout=END_TIMEOUT_S)
    assert time.monotonic() - began < 5
    assert servers(state) == []
    assert not state.gateway_socket.exists()
    assert state.holder() is None


def test_a_killed_service_is_cleaned_up_after(
    standfast: CommandLine, service: subprocess.Popen[str], state: StateDirectory
) -> None:
    """After SIGKILL its server ends by itself, and the next command works at once."""
    os.kill(service.pid, signal.SIGKILL)
    service.wait(timeout=END_TIMEOUT_S)
    ran = standfast("stats", "--json")
    assert ran.code == 0, ran.err
    wait_until(lambda: servers(state) == [])
    assert not state.gateway_socket.exists()


def test_a_command_that_is_terminated_stops_its_server(standfast: CommandLine, state: StateDirectory) -> None:
    """SIGTERM while the embedded server is starting: exit code 143, nothing left."""
    with standfast.start("migrate") as process:
        wait_until(lambda: state.holder() is not None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=END_TIMEOUT_S) == 143
    assert servers(state) == []
    assert state.holder() is None
