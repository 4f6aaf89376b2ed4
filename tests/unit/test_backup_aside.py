"""Work on a disk that hangs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from standfast.errors import BackupFailed
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.room import Building, Lock, left_over, remove_left_over
from tests.support import until


@pytest.mark.parametrize("ends", ["too late", "cancelled"])
async def test_what_comes_after_nobody_waits_is_given_back(tmp_path: Path, ends: str) -> None:
    """A lock taken by a disk that answers late would stay until the process ends, and no backup be made."""
    answers = threading.Event()

    def take() -> Lock:
        answers.wait(10)
        return Lock(tmp_path)

    taking = asyncio.create_task(
        on_disk(take, timeout_s=0.05 if ends == "too late" else 10.0, undo=Lock.release)
    )
    await asyncio.sleep(0)
    if ends == "cancelled":
        taking.cancel()
    with pytest.raises((BackupFailed, asyncio.CancelledError)):
        await taking
    answers.set()
    await until(lambda: (tmp_path / ".lock").exists() and _is_free(tmp_path))


async def test_a_disk_that_fails_is_said_in_our_words(tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match=r"No such file or directory .*nowhere"):
        await on_disk(lambda: Lock(tmp_path / "nowhere"))


def test_what_is_written_now_is_not_left_over(tmp_path: Path) -> None:
    """Only what nobody locks any more goes."""
    building = Building(tmp_path, "20261122T030000Z")
    (tmp_path / "20261121T030000Z.new").mkdir()
    assert left_over(tmp_path) == ["20261121T030000Z.new"]
    assert remove_left_over(tmp_path) == ["20261121T030000Z.new"]
    assert building.finish() == tmp_path / "20261122T030000Z"
    assert [one.name for one in tmp_path.iterdir()] == ["20261122T030000Z"]


def _is_free(root: Path) -> bool:
    try:
        Lock(root).release()
    except Exception:  # noqa: BLE001 - whoever has it
        return False
    return True
