"""The doctor on the machine and on Node: programs and packages that are really broken, and clocks that tell."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from standfast.node import bridge_directory
from standfast.service.doctor import bridge, machine
from tests.cli_support import own_surroundings
from tests.doctoring import found, outcome, patient


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings but the test's own."""
    with own_surroundings(monkeypatch, tmp_path):
        yield


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a shell script of that name and text."""

    def make(name: str, text: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        return folder / name

    return make


@pytest.fixture
def small_bridge(tmp_path: Path) -> Path:
    """A bridge whose packages are there as locked, and hold nothing."""
    made = tmp_path / "bridge"
    pinned = json.loads((bridge_directory() / "package.json").read_text())["dependencies"]["baileys"]
    packages = {"baileys": pinned, "ws": "8.0.0", "pino": "9.0.0"}
    for name, version in packages.items():
        (made / "node_modules" / name).mkdir(parents=True)
        (made / "node_modules" / name / "package.json").write_text(
            json.dumps({"name": name, "version": version})
        )
    (made / "package.json").write_text(json.dumps({"dependencies": {"baileys": pinned}}))
    locked = {f"node_modules/{name}": {"version": version} for name, version in packages.items()}
    optional = {"node_modules/other-platform": {"version": "1.0.0", "optional": True}}
    (made / "package-lock.json").write_text(json.dumps({"packages": {"": {}, **locked, **optional}}))
    return made


def test_this_python_and_its_packages_are_sound() -> None:
    """What runs these tests is good enough to run Standfast."""
    for look in (machine.python, machine.install, machine.account):
        assert outcome(look, patient()) == "ok"
    assert list(machine.faulty_packages(metadata.requires("standfast") or [])) == []


@pytest.mark.parametrize(
    ("requirement", "faults"),
    [
        ("pytest>=9", 0),
        ("pytest>=999,<1000", 1),
        ("pytest<9", 1),
        ("pytest==1.0.0", 1),
        ("psycopg[binary,pool]>=3.3", 0),
        ("no-such-package-here>=1", 1),
        ("no-such-package-here>=1; extra == 'tracing'", 0),
        ("no-such-package-here>=1; sys_platform == 'win32'", 0),
    ],
)
def test_a_package_that_is_missing_or_of_another_version_is_named(requirement: str, faults: int) -> None:
    """By the ranges that the installed Standfast itself declares; extras and other platforms are not asked for."""
    assert len(list(machine.faulty_packages([requirement]))) == faults


def test_a_package_that_does_not_load_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Installed, and broken as one that was copied from another platform: found by loading it elsewhere."""
    (tmp_path / "orjson.py").write_text("raise ImportError('wrong ELF class')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    result = found(machine.packages, patient())["machine.packages"]
    assert result.outcome == "wrong"
    assert "wrong ELF class" in result.message


@pytest.mark.parametrize(("answer", "expected"), [("yes", "ok"), ("no", "warning"), ("", "skipped")])
def test_the_clock_is_what_the_time_service_says(
    program: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: str,
    expected: str,
) -> None:
    """Synchronized, not, or nobody to ask, as in a container."""
    monkeypatch.setattr(machine, "_SYNCHRONIZED", tmp_path / "absent")
    monkeypatch.setenv("PATH", str(program("timedatectl", f"echo {answer}").parent))
    assert outcome(machine.clock, patient()) == expected


def test_too_few_open_files_are_told_with_a_limit_that_does() -> None:
    """A soft limit below what the sessions of one host need is a warning."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        few = found(machine.open_files, patient())["machine.open_files"]
        enough = outcome(machine.open_files, patient(sessions_per_host=10))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (few.outcome, enough) == ("warning", "ok")
    assert (few.mend or "").splitlines()[-1] == "ulimit -n 1312"


def test_a_host_limit_above_the_machines_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container's limit counts as the machine's memory; the setting to change is named."""
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", tmp_path / "memory.max")
    result = found(machine.memory, patient(host_memory_mb=2048))["machine.memory"]
    assert (result.outcome, result.mend) == ("warning", "STANDFAST_HOST_MEMORY_MB=512")
    assert outcome(machine.memory, patient(host_memory_mb=512)) == "ok"


def test_a_wrong_node_is_told_and_nothing_is_run_with_it(program: Callable[[str, str], Path]) -> None:
    """None of that name, too old, and one that is no Node.js at all."""
    wrong_ones = ["no-such-node", str(program("node18", "echo v18.1.0")), str(program("cat", "echo meow"))]
    for name in wrong_ones:
        results = list(bridge.node(patient(node_binary=name)))
        assert [one.outcome for one in results] == ["wrong", "skipped"]
        assert results[0].mend


def test_packages_that_are_missing_or_of_another_version_are_named(small_bridge: Path) -> None:
    """By the lock file, with npm's command; optional packages of other platforms are not missed."""
    who = patient(bridge_dir=small_bridge)
    assert outcome(bridge.packages, who) == "ok"
    (small_bridge / "node_modules" / "ws" / "package.json").write_text('{"version": "7.0.0"}')
    shutil.rmtree(small_bridge / "node_modules" / "pino")
    result = found(bridge.packages, who)["node.packages"]
    assert (result.outcome, result.mend) == ("wrong", f"cd {small_bridge} && npm ci --omit=dev")
    assert "ws is 7.0.0, locked is 8.0.0" in result.message
    assert "pino is missing" in result.message
    (small_bridge / "node_modules" / "baileys" / "package.json").write_text('{"version": "1.0.0"}')
    assert "is pinned" in found(bridge.packages, who)["node.packages"].message


def test_a_bridge_that_is_nowhere_is_wrong(tmp_path: Path) -> None:
    """With the setting that points at it."""
    result = found(bridge.packages, patient(bridge_dir=tmp_path / "nowhere"))["node.packages"]
    assert result.outcome == "wrong"
    assert "STANDFAST_BRIDGE_DIR" in (result.mend or "")


def test_baileys_that_does_not_load_is_wrong(small_bridge: Path) -> None:
    """Packages that are there by name and version, and hold nothing: only running them tells."""
    result = found(bridge.node, patient(bridge_dir=small_bridge))["node.baileys"]
    assert result.outcome == "wrong"
    assert "does not load" in result.message
