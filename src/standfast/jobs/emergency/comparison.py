"""Who is newer: what this node went on with on files, or what PostgreSQL has.

Invariant: decided by epoch and sequence, never by a clock. What cannot be shown to be a former state of what this node
has is a conflict, and a conflict is never decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from standfast.jobs.restore.present import Present

Verdict = Literal["files newer", "equal", "done", "conflict", "held", "damaged", "not here"]
Action = Literal["import", "keep files", "keep postgresql", "none", "decide"]
Preferred = Literal["files", "postgresql"]
WORDS: Mapping[Verdict, str] = {
    "files newer": "what PostgreSQL has is a former state of what this node has, or nothing",
    "equal": "PostgreSQL has everything",
    "done": "an earlier run has brought it back",
    "conflict": "both have moved on: decide with --prefer files or --prefer postgresql",
    "held": "another living node has it: stop it there, or leave it there with --prefer postgresql",
    "damaged": "its creds are whole, some keys are not: --accept-damage leaves those out",
    "not here": "this node has no whole state of it; PostgreSQL's stays",
}
_DECIDED: Mapping[Preferred, Action] = {"files": "keep files", "postgresql": "keep postgresql"}


class Kept(msgspec.Struct, frozen=True):
    """A company as this node's replica has it. `is_whole`: creds included. `identity`: in hex. `withheld`: why nobody
    may open it here, where its folder and the replica have both moved on."""

    company: str
    epoch: int
    sequence: int
    is_whole: bool
    identity: str = ""
    withheld: str = ""


class Compared(msgspec.Struct, omit_defaults=True):
    """One company. `why`: what an operator should know before deciding."""

    company: str
    verdict: Verdict
    action: Action
    why: str = ""
    postgresql_epoch: int = 0
    postgresql_sequence: int = 0
    postgresql_keys: int = 0
    files_epoch: int = 0
    files_sequence: int = 0

    @property
    def is_undecided(self) -> bool:
        return self.action == "decide"


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: `prefer` decides conflicts, those of `companies` or, where none is named, all."""

    prefer: Preferred | None = None
    companies: Collection[str] = field(default=frozenset())

    def of(self, company: str) -> Preferred | None:
        return self.prefer if not self.companies or company in self.companies else None


def compare(
    kept: Kept,
    now: Present,
    node: str,
    wish: Wish,
    *,
    is_ours: bool,
    is_same: bool = False,
    is_done: bool = False,
) -> Compared:
    """`node`: this one's, as PostgreSQL knows it. `is_ours`: the database is the one that the node left, or an empty
    one in its place. `is_same`: content that was compared is the same. `is_done`: an earlier run has brought it
    back."""
    compared = Compared(
        kept.company,
        "files newer",
        "import",
        "",
        now.epoch,
        now.sequence,
        now.keys,
        kept.epoch,
        kept.sequence,
    )
    if not kept.is_whole:
        compared.verdict, compared.action = "not here", "none"
        return compared
    if now.holder is not None and now.holder != node:
        compared.verdict, compared.action = "held", "decide"
        compared.why = f"the node {now.holder_name} holds it"
        if wish.of(kept.company) == "postgresql":
            compared.action = "keep postgresql"
        return compared
    if kept.withheld:
        # Files are two states here, and which of them goes on is not for this command to say.
        compared.verdict, compared.why = "conflict", kept.withheld
        compared.action = "keep postgresql" if wish.of(kept.company) == "postgresql" else "decide"
        return compared
    if is_done and now.epoch == kept.epoch and now.sequence <= kept.sequence:
        compared.verdict, compared.action = "done", "none"
        return compared
    against = "" if is_same else _against(kept, now, is_ours=is_ours)
    if against:
        compared.verdict, compared.why = "conflict", against
        preferred = wish.of(kept.company)
        compared.action = _DECIDED[preferred] if preferred else "decide"
    elif is_same or _has_all(kept, now, is_ours=is_ours):
        compared.verdict = "equal"
    return compared


def compare_folder(kept: Kept, now: Present, wish: Wish, *, is_same: bool) -> Compared:
    """As `compare`, of a folder of which no epoch is known: whatever PostgreSQL has of the company, but for the same
    content, may be newer."""
    compared = Compared(kept.company, "files newer", "import", "", now.epoch, now.sequence, now.keys)
    preferred = wish.of(kept.company)
    if not kept.is_whole:
        compared.verdict, compared.action = "not here", "none"
    elif now.holder is not None:
        compared.verdict, compared.why = "held", f"the node {now.holder_name} holds it"
        compared.action = "none" if preferred == "postgresql" else "decide"
    elif is_same:
        compared.verdict, compared.action = "equal", "none"
    elif now.has_creds or now.keys or now.sequence:
        compared.verdict, compared.why = "conflict", _beside(kept, now)
        compared.action = "decide" if preferred is None else "keep files" if preferred == "files" else "none"
    return compared


def _beside(kept: Kept, now: Present) -> str:
    if not now.has_creds and not now.keys:
        return "PostgreSQL knows it and has nothing of it: it was removed there"
    if now.has_creds and _identity(now) != kept.identity:
        return "PostgreSQL has it under another identity"
    return "PostgreSQL has it with another content, and a folder does not tell which is newer"


def needs_content(kept: Kept, now: Present, node: str, *, is_ours: bool) -> bool:
    """Whether only the content can tell that there is no conflict after all."""
    if not kept.is_whole or kept.withheld or not now.has_creds or now.is_damaged:
        return False
    if now.holder not in (None, node):
        return False
    return bool(_against(kept, now, is_ours=is_ours)) and _identity(now) == kept.identity


def _has_all(kept: Kept, now: Present, *, is_ours: bool) -> bool:
    return is_ours and now.has_creds and (now.epoch, now.sequence) == (kept.epoch, kept.sequence)


def _against(kept: Kept, now: Present, *, is_ours: bool) -> str:
    """Why what PostgreSQL has may be more than a former state of what this node has; empty: it is not."""
    is_there = now.has_creds or now.keys > 0
    if now.is_damaged:
        return "its creds in PostgreSQL cannot be read"
    if now.has_creds and _identity(now) != kept.identity:
        return "PostgreSQL has it under another identity: it was paired anew elsewhere"
    if is_there and not is_ours:
        return "this is another database than the one that was left, and it has this company too"
    if now.epoch == 0:
        # Without a row of its own nothing tells how far its history has come.
        return "PostgreSQL has it with another content, and nothing tells who wrote that" if is_there else ""
    if now.epoch < kept.epoch:
        return ""
    if now.epoch == kept.epoch:
        return _beyond(now) if now.sequence > kept.sequence else ""
    if now.base <= kept.epoch:
        return ""  # claimed since, and nothing written under that
    if not is_there:
        return "its auth state was removed from PostgreSQL by another owner"
    return "another owner has written it in PostgreSQL since this node left"


def _beyond(now: Present) -> str:
    return f"PostgreSQL has writes of this node, up to {now.sequence:,}, that its own vault lacks"


def _identity(now: Present) -> str:
    return now.identity.hex() if now.identity is not None else ""
