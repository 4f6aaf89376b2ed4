"""A look into the vault's file from outside, whoever has it open or was killed with it open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from standfast.vault.storage.glance import Glance, GlanceFailed, glance
from tests.support import until
from tests.vault_files import APPLIED, WRITTEN, small_log, written

WAITING = 2 * (WRITTEN - APPLIED)


def seen(directory: Path) -> Glance:
    found = glance(directory / "vault", None, timeout_s=5.0)
    assert found is not None
    return found


def content(directory: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file with its bytes, mode and time of change."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in (directory / "vault").iterdir()
    }


async def test_an_open_vault_is_looked_into_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both companies, and what PostgreSQL lacks, as soon as the vault has noted that; the writer goes on."""
    small_log(monkeypatch)
    vault_file = await written(tmp_path, close=False)
    try:
        await until(lambda: seen(tmp_path).journal_batches == WAITING)
        found = seen(tmp_path)
        assert (found.companies, found.held, found.quarantine) == (2, 2, 0)
        assert found.journal_since is not None
        for company in vault_file.companies():
            vault_file.applied(company.number, WRITTEN)
    finally:
        await vault_file.close()
    assert seen(tmp_path).journal_batches == 0


async def test_a_closed_vault_is_left_as_it_is(tmp_path: Path) -> None:
    """No log is made, no time is changed."""
    await written(tmp_path)
    before = content(tmp_path)
    assert seen(tmp_path).journal_batches == WAITING
    assert content(tmp_path) == before


def test_what_a_killed_process_left_is_not_touched(tmp_path: Path) -> None:
    """Neither the log, which holds what was acknowledged, nor SQLite's index of it: who opens the vault next must find
    what the kill left. Without the index it is not looked into at all."""
    script = (
        "import asyncio, os, signal, sys\nfrom pathlib import Path\nfrom tests.vault_files import written\n"
        "async def main():\n    await written(Path(sys.argv[1]), close=False)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\nasyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path], timeout=30, check=False)
    before = content(tmp_path)
    assert "vault.db-wal" in before
    assert WAITING <= seen(tmp_path).journal_batches <= 2 * WRITTEN, "what was not noted counts as lacking"
    assert content(tmp_path) == before
    (tmp_path / "vault" / "vault.db-shm").unlink()
    del before["vault.db-shm"]
    with pytest.raises(GlanceFailed, match="OperationalError"):
        seen(tmp_path)
    assert content(tmp_path) == before


async def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Another key, a damaged file, no file at all: an absence is not a failure, and a failure no absence."""
    assert glance(tmp_path / "vault", None, timeout_s=5.0) is None
    await written(tmp_path)
    with pytest.raises(GlanceFailed, match="cannot be read"):
        glance(tmp_path / "vault", bytes(32), timeout_s=5.0)
    shutil.copy(tmp_path / "vault" / "vault.db", tmp_path / "whole")
    (tmp_path / "vault" / "vault.db").write_bytes(b"no database " * 1_000)
    with pytest.raises(GlanceFailed, match="cannot be read"):
        seen(tmp_path)
    shutil.copy(tmp_path / "whole", tmp_path / "vault" / "vault.db")
    (tmp_path / "vault" / "vault.key").unlink()
    with pytest.raises(GlanceFailed, match="FileNotFoundError"):
        seen(tmp_path)
    assert not (tmp_path / "vault" / "vault.key").exists(), "none is made by looking"
