"""Writes docs/runbook.md from the pages that `standfast runbook` shows.

Invariant: the same pages give the same text, so that a test can hold the file against them.
"""

from __future__ import annotations

from pathlib import Path

from standfast.service.runbook.pages import document

FILE = Path(__file__).parent.parent / "docs" / "runbook.md"

if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
