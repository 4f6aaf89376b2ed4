"""The table of docs/disaster-recovery.md against the drills and restore tests that are committed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from scripts import measured

from standfast.drill.history import NEVER, ProvenBackup
from standfast.jobs.backup.manifest import RestoreTest
from tests.drills import BEGAN, made_up


def test_the_document_is_current() -> None:
    """Run `python -m scripts.measured` once a drill was committed."""
    text = measured.DOCUMENT.read_text(encoding="utf-8")
    assert measured.filled(text) == text


def test_each_figure_stands_with_what_measured_it(tmp_path: Path) -> None:
    """From the committed records; what nothing has measured says so, and nothing around the table changes."""
    (tmp_path / "drill-one.json").write_bytes(msgspec.json.encode(made_up()))
    tested = ProvenBackup(name="20260921T030000Z", test=RestoreTest(BEGAN, True, 9.0, 3600.0, rows=1_652))
    (tmp_path / "restore-test-one.json").write_bytes(msgspec.json.encode(tested))
    text = measured.filled(f"before\n{measured.BEGIN}old\n{measured.END}after\n", tmp_path)
    assert text.startswith(f"before\n{measured.BEGIN}")
    assert text.endswith(f"{measured.END}after\n")
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "1.42 s: a restart" in rows["unreachable"]
    assert "0.00 s, 0 messages lost | 2026-09-21, drill 20260921T142640Z" in rows["unreachable"]
    assert "9.00 s" in rows["deletion"]
    assert "60 min, the backup's age then | 2026-09-21, restore test of 2026" in rows["deletion"]
    assert "(1,652 rows)" in rows["deletion"]
    assert NEVER in rows["everything"]


def test_a_document_without_its_markers_is_not_written() -> None:
    """It would lose its text."""
    with pytest.raises(SystemExit):
        measured.filled("no markers")
