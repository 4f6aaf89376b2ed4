"""Fills in how long recovering took, as last measured, in docs/disaster-recovery.md: from what lies in docs/drills/.

`python -m scripts.measured` writes the table between its markers; `python -m scripts.measured BACKUPS` first takes the
newest restore tests of a backup directory into docs/drills/. Invariant: the same records give the same text, so that a
test can hold the document against them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from standfast.drill import telling
from standfast.drill.history import Measured, ProvenBackup, measured, proven_backups
from standfast.drill.record import DrillRecord

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT = DOCS / "disaster-recovery.md"
DRILLS = DOCS / "drills"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"


def filled(document: str, drills: Path = DRILLS) -> str:
    """The document with the table as it should be."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        raise SystemExit(f"{DOCUMENT.name} has no {BEGIN.strip()} … {END.strip()}")
    return head + BEGIN + table(drills) + END + tail


def table(drills: Path) -> str:
    """One row for each disaster."""
    records = [
        msgspec.json.decode(path.read_bytes(), type=DrillRecord)
        for path in sorted(drills.glob("drill-*.json"))
    ]
    tests = [
        msgspec.json.decode(path.read_bytes(), type=ProvenBackup)
        for path in sorted(drills.glob("restore-test-*.json"))
    ]
    rows = ["| disaster | RTO | RPO | measured |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(cells(one))} |".replace("|  |", "| |") for one in measured(records, tests)]
    return "\n".join(rows) + "\n"


def cells(one: Measured) -> tuple[str, str, str, str]:
    if one.when is None:
        return one.disaster, one.by, one.by, ""
    lost = "" if one.messages_lost is None else f"{one.messages_lost} messages lost"
    age = "" if one.rpo_s is None else telling.seconds(one.rpo_s)
    if one.rows is not None:
        age += ", the backup's age then"
    by = one.by if one.rows is None else f"{one.by} ({one.rows:,} rows)"
    return (
        one.disaster,
        f"{telling.seconds(one.rto_s)}: {one.means}",
        ", ".join(part for part in (age, lost) if part),
        f"{time.strftime('%Y-%m-%d', time.gmtime(one.when))}, {by}",
    )


def take(backups: Path) -> None:
    """Copy the newest restore test that went well, and the newest of a backup that stands elsewhere too."""
    tests = sorted(proven_backups(backups), key=lambda one: one.test.at)
    chosen = {one.name: one for one in (*tests[-1:], *[one for one in tests if one.elsewhere][-1:])}
    DRILLS.mkdir(exist_ok=True)
    for name, one in chosen.items():
        path = DRILLS / f"restore-test-{name}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(one)) + b"\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        take(Path(argument))
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
