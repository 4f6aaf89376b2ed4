"""What becomes of each finding: what a repair may do about it, and whether it was asked to.

Invariant: deciding changes nothing. Two states that differ are never decided here, only by `prefer`; what nothing may
be done about is named with what to do instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import msgspec

from standfast.jobs.verify.finding import Compared, Finding, VerifyReport, costs_of

Action = Literal["remove", "complete", "push", "renew", "none"]
Preferred = Literal["replica", "postgresql"]
CHANGING: frozenset[Action] = frozenset({"remove", "complete"})
WHOLE: frozenset[Action] = frozenset({"push", "renew"})
_WRITE_ANEW = "Write the folder anew: standfast emergency to-files, or standfast export."
_PREFER = (
    "PostgreSQL alone has it: put the replica's state there with --prefer replica, or keep PostgreSQL's with"
    " --prefer postgresql."
)


class Planned(msgspec.Struct, omit_defaults=True):
    """`why`: what speaks against doing anything, or what it costs. `is_safe`: nobody needs to be asked."""

    finding: Finding
    action: Action
    why: str = ""
    is_safe: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """`findings`: ids, empty: all. `prefer` decides where PostgreSQL and the replica differ."""

    findings: Collection[str] = ()
    prefer: Preferred | None = None


def plan(report: VerifyReport, wish: Wish) -> list[Planned]:
    """One entry for each finding above info that was asked for."""
    compared = {one.company: one for one in report.compared}
    wanted = [
        one
        for one in report.findings
        if one.level != "info" and (not wish.findings or one.id in wish.findings)
    ]
    return [_planned(one, compared.get(one.company), wish.prefer) for one in wanted]


def _planned(one: Finding, compared: Compared | None, prefer: Preferred | None) -> Planned:
    if one.kind == "differs":
        return _chosen(one, prefer)
    if one.kind == "behind":
        return Planned(one, "none", one.described.costs)
    if one.where == ["files"]:
        return Planned(one, "none", _WRITE_ANEW)
    if compared is not None and len({"postgresql", "replica"} & set(one.where)) == 1:
        return _of_one_side(one, compared, prefer)
    known = one.described
    if known.remedy == "none" or "postgresql" not in one.where:
        return Planned(one, "none", costs_of(known, one.company))
    return Planned(one, known.remedy, known.costs, known.is_safe)


def _of_one_side(one: Finding, compared: Compared, prefer: Preferred | None) -> Planned:
    """The other side was looked at, and does not have it."""
    if "postgresql" in one.where:
        if compared.newer == "postgresql":
            known = one.described
            return Planned(one, known.remedy, costs_of(known, one.company), known.is_safe)
        return _chosen(one, prefer if prefer != "postgresql" else None)
    if compared.newer == "same":
        return _chosen(one, prefer if prefer != "replica" else None)
    if compared.newer == "postgresql":
        return Planned(one, "none", "The next start of the session takes PostgreSQL's state.")
    return Planned(one, "none", "Verify again once PostgreSQL has what this node wrote.")


def _chosen(one: Finding, prefer: Preferred | None) -> Planned:
    if prefer == "replica":
        costs = (
            "The session is ended, the replica's state put into PostgreSQL, and the session started again."
        )
        return Planned(one, "push", costs)
    if prefer == "postgresql":
        costs = "The session is ended, PostgreSQL's state taken over, and the session started again."
        return Planned(one, "renew", costs)
    return Planned(one, "none", _PREFER if "postgresql" in one.where else one.described.costs)
