"""The house's own tools: what `make setup` starts with and what `make lint` ends with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.file_order import LONG_FILES, TESTS

ROOT = Path(__file__).parents[2]
BREACHES = {
    "long.py": "x = 1\n" * 401,
    "host.txt": "see https://registry." + "npmjs.org/baileys\n",
    "path.py": "HOME = '/" + "root/project'\n",
    "loose.lock": "rich==15.0.0 \\\n    --hash=sha256:00\nhttpx==0.28.1\n",
    "url.lock": "--index-url https://index.example/simple\n",
    "package-lock.json": '{\n"packages": {\n    "node_modules/ws": {\n      "resolved": "x"\n    }\n}\n}\n',
}
TOLD = {
    "long.py": "401 lines",
    "host.txt": "names a package registry's host",
    "path.py": "names a path of one machine",
    "loose.lock": "httpx==0.28.1 has no hash",
    "url.lock": "names an address",
    "package-lock.json": "node_modules/ws has no integrity hash",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository that keeps every rule: it documents the exit codes."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=30)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "exit-codes.md").write_text((ROOT / "docs" / "exit-codes.md").read_text())
    return tmp_path


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the check of house rules there."""
    script = ROOT / "scripts" / "check_house.py"
    return subprocess.run([sys.executable, script], cwd=directory, capture_output=True, text=True, timeout=30)


def test_a_house_in_order_passes(repository: Path) -> None:
    """Nothing to tell, exit code 0."""
    ran = check(repository)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_is_named(repository: Path, name: str) -> None:
    """The file and the rule, also for a file that is not added yet."""
    (repository / name).write_text(BREACHES[name])
    ran = check(repository)
    assert ran.returncode == 1
    assert name in ran.stdout
    assert TOLD[name] in ran.stdout


def test_an_undocumented_exit_code_is_named(repository: Path) -> None:
    """The table that scripts rely on is complete."""
    page = repository / "docs" / "exit-codes.md"
    page.write_text(page.read_text().replace("| 12 | `node` |", "|"))
    ran = check(repository)
    assert ran.returncode == 1
    assert "exit code 12 (node)" in ran.stdout


def find_python(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the search with only `path` to look in."""
    script = ROOT / "scripts" / "find_python.sh"
    return subprocess.run(
        ["/bin/sh", script],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


def fake_python(path: Path, body: str) -> Path:
    """A program `python3` in `path`."""
    program = path / "python3"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


def test_the_first_python_that_can_make_an_environment_is_taken(tmp_path: Path) -> None:
    """A shim that exists and does not run, as version managers leave them, is passed over."""
    fake_python(tmp_path, "echo 'not installed' >&2; exit 127")
    good = tmp_path / "python3.12"
    good.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    good.chmod(0o755)
    ran = find_python(tmp_path)
    assert (ran.returncode, ran.stdout) == (0, f"{good}\n")


def test_a_python_without_ensurepip_is_told_what_it_lacks(tmp_path: Path) -> None:
    """Debian splits venv off; its own message comes too late and too long."""
    fake_python(tmp_path, 'case "$2" in *ensurepip*) exit 1 ;; esac\nexit 0')
    ran = find_python(tmp_path)
    assert ran.returncode == 1
    assert "apt install python3-venv" in ran.stderr


def test_no_python_new_enough_is_told(tmp_path: Path) -> None:
    """An old one is as good as none."""
    fake_python(tmp_path, "exit 1")
    ran = find_python(tmp_path)
    assert ran.returncode == 1
    assert "no Python 3.11 or newer" in ran.stderr


def test_the_files_that_are_run_first_are_there() -> None:
    """A test file that was renamed is not silently begun last."""
    assert [name for name in LONG_FILES if not (TESTS / name).is_file()] == []
