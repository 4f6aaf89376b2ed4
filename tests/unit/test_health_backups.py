"""What health says of backups."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import msgspec
import pytest

from standfast.health.backups import BackupWatch, findings, scanned
from standfast.health.thresholds import Thresholds
from standfast.jobs.backup.catalogue import write_private
from standfast.jobs.backup.manifest import (
    FORMAT,
    MANIFEST,
    RECORD,
    Content,
    Manifest,
    Record,
    RestoreTest,
    Validation,
)
from standfast.service.backup_scan import catalogued

LIMITS = Thresholds(backup_max_age_s=3600.0)


def _written(path: Path, age_s: float, content: bytes = b"x" * 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s, time.time() - age_s))


async def _told(watch: BackupWatch) -> tuple[str, list[tuple[str, str]]]:
    await watch.look()
    section = watch.section(LIMITS)
    assert section is not None
    return section.state, [(one.code, one.level) for one in findings(section, LIMITS)]


async def test_the_newest_whole_file_counts(tmp_path: Path) -> None:
    """Neither an empty one, nor one that is being written, nor a hidden one, nor a segment of the change log; also in
    directories below."""
    _written(tmp_path / "old.dump", 9000)
    _written(tmp_path / "2026" / "july" / "new.dump", 60, b"x" * 99)
    _written(tmp_path / "empty.dump", 1, b"")
    _written(tmp_path / "running.dump.partial", 1)
    _written(tmp_path / ".hidden", 1)
    _written(tmp_path / "changes" / "node" / "1.seg", 1)
    watch = BackupWatch(tmp_path, named=True)
    assert watch.section(LIMITS) is None
    assert await _told(watch) == ("ok", [])
    section = watch.section(LIMITS)
    assert section is not None
    assert (section.count, section.newest_bytes) == (2, 99)
    assert section.newest_age_s == pytest.approx(60, abs=5)
    assert watch.disk is not None
    beside = BackupWatch(tmp_path, named=True, beside=tmp_path)
    assert await _told(beside) == ("ok", [])
    assert beside.disk is None, "measured with what lies beside it"


async def test_an_old_backup_is_told_with_its_age(tmp_path: Path) -> None:
    """Beyond STANDFAST_BACKUP_MAX_AGE_H; it ages between two looks at the directory too."""
    _written(tmp_path / "old.dump", 3590)
    now = time.time()
    watch = BackupWatch(tmp_path, named=True, wall=lambda: now)
    assert await _told(watch) == ("ok", [])
    now += 20
    assert await _told(watch) == ("old", [("backup_old", "warning")])


@pytest.mark.parametrize(
    ("named", "is_there", "expected"),
    [
        (False, False, ("none", [("backup_none", "info")])),
        (False, True, ("none", [("backup_none", "info")])),
        (True, True, ("none", [("backup_none", "warning")])),
        (True, False, ("unreadable", [("backup_unreadable", "warning")])),
    ],
)
async def test_no_backup_is_a_trouble_where_some_are_expected(
    tmp_path: Path, named: bool, is_there: bool, expected: object
) -> None:
    """A directory that an operator named and that is gone is not an empty one."""
    root = tmp_path / "backups"
    if is_there:
        root.mkdir()
    assert await _told(BackupWatch(root, named=named)) == expected


async def test_a_directory_that_hangs_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It is unreadable after its time, no second thread is begun for it, and it is read again once it answers."""
    _written(tmp_path / "a.dump", 1)
    answers, began = threading.Event(), 0

    def hangs(root: Path, _beside: Path | None):  # type: ignore[no-untyped-def]
        nonlocal began
        began += 1
        answers.wait(5)
        return scanned(root)

    watch = BackupWatch(tmp_path, named=True, timeout_s=0.05, scan=hangs)
    for _ in range(2):
        watch._looked_at = None
        assert await _told(watch) == ("unreadable", [("backup_unreadable", "warning")])
    assert began == 1
    answers.set()
    watch._looked_at, watch._timeout_s = None, 5.0
    assert await _told(watch) == ("ok", [])


def _backup(root: Path, name: str, age_s: float, *checks: bool, tested: float | None = None) -> None:
    at = time.time() - age_s
    directory = root / name
    directory.mkdir(parents=True)
    manifest = Manifest(
        format=FORMAT,
        name=name,
        kinds=["daily"],
        snapshot_at=at,
        started_at=at,
        schema_version=6,
        duration_s=1.0,
        standfast_version="1",
        server_version="18.4",
        client_version="18.4",
        database="standfast",
        node="a",
        sentinel="0",
        content=Content(file="content.dump.zst", bytes=77, sha256="0", plain_bytes=99, compression="zstd"),
        tables={},
        companies={},
        digest="",
        digest_method="",
    )
    record = Record(
        [Validation(at=at, ok=ok, duration_s=0.1) for ok in checks],
        [] if tested is None else [RestoreTest(at=time.time() - tested, ok=True, rto_s=1, rpo_s=1)],
    )
    write_private(directory / MANIFEST, msgspec.json.encode(manifest))
    write_private(directory / RECORD, msgspec.json.encode(record))


async def test_only_good_backups_of_ours_count(tmp_path: Path) -> None:
    """A newer one that is bad, one that nobody looked into and the change log's segments make no backup young."""
    _backup(tmp_path, "20261120T030000Z", 9000, True)
    _backup(tmp_path, "20261121T030000Z", 60, True, False)
    _backup(tmp_path, "20261122T030000Z", 30)
    _written(tmp_path / "changes" / "1.seg", 1)
    watch = BackupWatch(tmp_path, named=True, scan=catalogued)
    state, told = await _told(watch)
    assert (state, told) == (
        "old",
        [("backup_old", "warning"), ("backups_bad", "info"), ("backup_unproven", "info")],
    )
    section = watch.section(LIMITS)
    assert section is not None
    assert (section.count, section.unproven, section.bad) == (1, 1, ["20261121T030000Z"])


async def test_backups_that_nobody_has_proven_are_none(tmp_path: Path) -> None:
    """Where not one is good, there is none, and the way to one is told."""
    _backup(tmp_path, "20261122T030000Z", 30)
    watch = BackupWatch(tmp_path, named=False, scan=catalogued)
    assert await _told(watch) == ("none", [("backup_none", "warning")])
    section = watch.section(LIMITS)
    assert section is not None
    assert "standfast backup validate" in str(findings(section, LIMITS)[0].recommendation)


async def test_a_restore_test_proves_for_forty_days(tmp_path: Path) -> None:
    """One that passed is enough; when the newest backup is 40 days younger than it, it is told."""
    _backup(tmp_path, "20261122T030000Z", 30, True, tested=39 * 86_400)
    assert await _told(BackupWatch(tmp_path, named=True, scan=catalogued)) == ("ok", [])
    shutil.rmtree(tmp_path / "20261122T030000Z")
    _backup(tmp_path, "20261122T030000Z", 30, True, tested=41 * 86_400)
    watch = BackupWatch(tmp_path, named=True, scan=catalogued)
    assert await _told(watch) == ("ok", [("backup_unproven", "warning")])


async def test_the_change_log_is_no_backup(tmp_path: Path) -> None:
    """Its segments lie beside the backups and are seconds old: where nothing else is there, there is no backup."""
    _written(tmp_path / "changes" / "a" / "1.seg", 1)
    assert await _told(BackupWatch(tmp_path, named=True, scan=catalogued)) == (
        "none",
        [("backup_none", "warning")],
    )
