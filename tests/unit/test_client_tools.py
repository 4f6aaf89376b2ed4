"""Which pg_dump is chosen for a server, of those that a machine has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from standfast.errors import ClientToolsMismatch
from standfast.postgres import client_tools
from standfast.postgres.client_tools import find_client_tools

Place = Callable[[str, str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Programs that tell a version, at a place below a root directory of the test's own; nothing else is on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr(client_tools, "embedded_directories", list)

    def at(place: str, told: str) -> Path:
        directory = tmp_path / place
        directory.mkdir(parents=True)
        for name in ("pg_dump", "pg_restore", "psql"):
            (directory / name).write_text(f"#!/bin/sh\necho '{name} {told}'\n")
            (directory / name).chmod(0o755)
        return directory

    return at


def test_the_equal_version_is_chosen_before_the_nearest_above(install: Place, tmp_path: Path) -> None:
    """Never one below, however near."""
    for major in (15, 17, 16, 18):
        install(f"usr/lib/postgresql/{major}/bin", f"(PostgreSQL) {major}.3 (Debian {major}.3-1)")
    assert find_client_tools(16, root=tmp_path).version == "16.3"
    assert find_client_tools(14, root=tmp_path).major == 15
    with pytest.raises(ClientToolsMismatch) as caught:
        find_client_tools(19, root=tmp_path)
    assert all(f"{major}.3 in {tmp_path}" in caught.value.message for major in (15, 16, 17, 18))
    assert "postgresql-client-19" in caught.value.next_step


def test_a_named_directory_is_the_only_one_that_counts(install: Place, tmp_path: Path) -> None:
    """What an operator named is not passed over in silence."""
    install("usr/lib/postgresql/18/bin", "(PostgreSQL) 18.1")
    named = install("named", "(PostgreSQL) 15.13")
    assert find_client_tools(15, named, root=tmp_path).pg_restore == named / "pg_restore"
    with pytest.raises(ClientToolsMismatch, match=r"STANDFAST_PG_BIN_DIR=.*15\.13"):
        find_client_tools(18, named, root=tmp_path)


def test_what_cannot_be_used_is_told_with_the_reason(
    install: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory without pg_restore, a program that says something else, one that hangs, one that is no program."""
    (install("usr/lib/postgresql/18/bin", "(PostgreSQL) 18.1") / "pg_restore").unlink()
    install("usr/lib/postgresql/19/bin", "of something else")
    (install("usr/pgsql-20/bin", "") / "pg_dump").write_text("#!/bin/sh\nexec /bin/sleep 30\n")
    (install("usr/pgsql-21/bin", "") / "pg_dump").write_text("#!/no/such/shell\n")
    monkeypatch.setattr(client_tools, "TIMEOUT_S", 0.2)
    with pytest.raises(ClientToolsMismatch) as caught:
        find_client_tools(18, root=tmp_path)
    for reason in ("no pg_restore", "does not tell its version", "did not answer", "cannot be run"):
        assert reason in caught.value.message


def test_debians_wrapper_is_passed_over(
    install: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs another version than it tells, by what clusters the machine has."""
    share = install("usr/share/postgresql-common", "(PostgreSQL) 18.0")
    (share / "pg_dump").rename(share / "pg_wrapper")
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/pg_dump").symlink_to(share / "pg_wrapper")
    monkeypatch.setenv("PATH", str(tmp_path / "usr/bin"))
    real = install("usr/lib/postgresql/18/bin", "(PostgreSQL) 18.2")
    assert find_client_tools(18, root=tmp_path).pg_dump == real / "pg_dump"


def test_a_program_on_path_and_in_a_folder_is_asked_once(
    install: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start of a program costs time, and a list that names one place twice misleads."""
    directory = install("usr/lib/postgresql/15/bin", "(PostgreSQL) 15.1")
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(ClientToolsMismatch) as caught:
        find_client_tools(18, root=tmp_path)
    assert caught.value.facts["found"] == [f"15.1 in {directory}"]
