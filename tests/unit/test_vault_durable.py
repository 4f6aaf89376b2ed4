"""What a commit of the vault's file stands on."""

from __future__ import annotations

import contextlib
from pathlib import Path

from standfast.vault.storage.schema import connect

_FULL = 2


def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """No kill of a process can show it: SQLite syncs its log at each commit only in this mode."""
    with contextlib.closing(connect(tmp_path / "vault.db")) as connection:
        assert connection.execute("pragma synchronous").fetchone() == (_FULL,)
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
