"""How notes are made of troubles.

Invariant: a note is made whole, of what is known at that moment; nothing is looked up when it is delivered.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from standfast.alert import Alert
from standfast.alerts.channel import Note, NoteKind, worst
from standfast.alerts.records import Trouble, facts_of, next_step_of
from standfast.alerts.storm import Digest

_NAMED = 5
_LISTED = 50


def note_of(kind: NoteKind, trouble: Trouble, node: str, at: float) -> Note:
    """A note of `kind` about a trouble as it was last reported."""
    told = trouble.incident
    return Note(
        id=new_id(),
        kind=kind,
        name=told.name,
        level=trouble.level,
        former_level=trouble.said if kind == "escalated" else None,
        message=told.message,
        since=told.since,
        at=at,
        node=node,
        fingerprint=trouble.fingerprint,
        count=max(1, trouble.unsaid),
        company=told.company,
        subject=told.subject,
        tags=trouble.tags,
        facts={**trouble.facts, "returns": told.returns} if told.returns else trouble.facts,
        next_step=told.next_step,
    )


def resolved_note(ender: Alert, ended: Sequence[Trouble], node: str, at: float, now_b: float) -> Note:
    """That these are over; the one that began first stands for all."""
    first = min(ended, key=lambda one: one.began_b)
    return Note(
        id=new_id(),
        kind="resolved",
        name=ender.name,
        level="info",
        former_level=worst(*(one.said or one.level for one in ended)),
        message=ender.message,
        since=first.incident.since,
        at=at,
        node=node,
        fingerprint=first.fingerprint,
        count=sum(one.incident.count for one in ended),
        duration_s=round(now_b - first.began_b, 1),
        company=first.incident.company,
        subject=first.incident.subject,
        tags=dict(ender.tags),
        facts=facts_of(ender),
        next_step=next_step_of(ender),
        ends=tuple(one.incident.name for one in ended),
    )


def digest_note(digest: Digest, at: float) -> Note:
    """One note for what a minute held back; the note itself where it is only one."""
    notes = [held.note for held in digest.held]
    first = notes[0]
    if len(notes) == 1 and not digest.gone:
        return first
    whom = [note.company or note.subject or note.node for note in notes]
    gone = f"; {digest.gone} more were over before they were told" if digest.gone else ""
    return Note(
        id=new_id(),
        kind="digest",
        of=first.kind,
        name=first.name,
        level=first.level,
        former_level=first.former_level,
        message=f"{first.name}: {len(notes)} more within a minute: {_some(whom)}{gone}. The first: {first.message}",
        since=min(note.since for note in notes),
        at=at,
        node=first.node,
        fingerprint=f"{first.name}|digest",
        count=len(notes),
        tags=_common(note.tags for note in notes),
        facts={"subjects": whom[:_LISTED], "over_already": digest.gone},
        next_step="'standfast alerts' lists them all.",
        ends=first.ends,
    )


def new_id() -> str:
    return uuid.uuid4().hex


def _some(whom: list[str]) -> str:
    more = len(whom) - _NAMED
    return ", ".join(whom[:_NAMED]) + (f" and {more} others" if more > 0 else "")


def _common(tags: Iterable[dict[str, str]]) -> dict[str, str]:
    common: dict[str, str] | None = None
    for one in tags:
        common = dict(one) if common is None else {k: v for k, v in common.items() if one.get(k) == v}
    return common or {}
