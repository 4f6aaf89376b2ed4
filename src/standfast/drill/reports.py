"""The written reports of a drill: Markdown for people and repositories, JSON for programs, HTML with a picture.

Invariant: each file is there whole or not at all, and holds no secret, no phone number and no path of this machine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from standfast.drill.markdown import markdown
from standfast.drill.page import page
from standfast.drill.record import DrillRecord
from standfast.drill.telling import shown
from standfast.errors import StateDirectoryError
from standfast.jobs.backup.catalogue import write_private


def write_reports(record: DrillRecord, directory: Path) -> list[Path]:
    """`drill-<id>.md`, `.json` and `.html` in `directory`, which is made where it is missing."""
    told = shown(record)
    texts = {
        ".md": markdown(told).encode(),
        ".json": msgspec.json.format(msgspec.json.encode(told)) + b"\n",
        ".html": page(told).encode(),
    }
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = []
        for suffix, text in texts.items():
            path = directory / f"drill-{told.id}{suffix}"
            write_private(path, text)
            paths.append(path)
    except OSError as error:
        raise StateDirectoryError(
            f"the reports cannot be written to {directory}: {error.strerror}",
            next_step="Name another directory with --report; 'standfast drill show latest' has the figures.",
        ) from error
    return paths
