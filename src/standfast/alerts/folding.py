"""Notes that could not be delivered for too long, as one.

Invariant: every note is counted in the digest by its name, also those of digests that were folded before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from standfast.alerts.channel import Note, worst
from standfast.alerts.notes import new_id

FOLDED = "undelivered_alerts"
_NAMED = 5


def fold(notes: Sequence[Note], at: float) -> Note:
    """The digest of notes that a channel could not be given in time; `facts["names"]` counts them."""
    names: Counter[str] = Counter()
    for note in notes:
        names.update(note.facts["names"] if note.name == FOLDED else {note.name: 1})
    total = names.total()
    told = ", ".join(f"{name} {count}" for name, count in names.most_common(_NAMED))
    more = f" and {len(names) - _NAMED} other kinds" if len(names) > _NAMED else ""
    return Note(
        id=new_id(),
        kind="digest",
        name=FOLDED,
        level=worst(*(note.level for note in notes)),
        message=f"{total} alerts could not be told here in time: {told}{more}",
        since=min(note.since for note in notes),
        at=at,
        node=notes[-1].node,
        fingerprint=f"{FOLDED}|",
        count=total,
        facts={"names": dict(names)},
        next_step="'standfast alerts' lists them all.",
    )
