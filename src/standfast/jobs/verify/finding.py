"""What a check has found, as it is shown, sent and stored.

Invariant: nothing here says a key's value or a phone number; a finding's id stays the same from run to run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Literal

import msgspec

from standfast.authstate.file_names import masked
from standfast.jobs.verify.kinds import KINDS, Kind, Level

Source = Literal["postgresql", "replica", "files"]
SOURCES: tuple[Source, ...] = ("postgresql", "replica", "files")
EXAMPLES = 3
Place = tuple[str, str]


class Finding(msgspec.Struct, omit_defaults=True):
    """One kind of trouble with one company. `where`: the sources that have it. `examples`: ids, masked."""

    id: str
    kind: str
    level: Level
    company: str
    type: str
    count: int
    what: str
    causes: str
    repair: str
    where: list[Source]
    examples: list[str] = []
    detail: str = ""

    @property
    def described(self) -> Kind:
        return KINDS[self.kind]


class Compared(msgspec.Struct, omit_defaults=True):
    """Who has the newer state of a company: by epoch and sequence, never by a clock."""

    company: str
    newer: Literal["same", "postgresql", "replica"]
    postgresql_epoch: int = 0
    postgresql_sequence: int = 0
    replica_epoch: int = 0
    replica_sequence: int = 0


class VerifyReport(msgspec.Struct, omit_defaults=True):
    """`looked_at`: companies by source; `not_looked_at`: the reason for each source that could not be read."""

    looked_at: dict[str, int]
    keys: int
    duration_s: float
    findings: list[Finding]
    compared: list[Compared] = []
    not_looked_at: dict[str, str] = {}

    def count(self, level: Level) -> int:
        return sum(one.level == level for one in self.findings)

    @property
    def is_clean(self) -> bool:
        """Nothing above info, in what was looked at."""
        return all(one.level == "info" for one in self.findings)


class Places:
    """What one look at one company has found, by kind and type: exact ids, for a repair."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], list[str]] = {}
        self.details: dict[tuple[str, str], str] = {}

    def add(self, kind: str, key_type: str = "", key_id: str = "", detail: str = "") -> None:
        self.found.setdefault((kind, key_type), []).append(key_id)
        if detail:
            self.details.setdefault((kind, key_type), detail)

    def findings(self, company: str, source: Source) -> list[Finding]:
        made = []
        for (kind, key_type), ids in self.found.items():
            known = KINDS[kind]
            made.append(
                Finding(
                    finding_id(company, kind, key_type),
                    kind,
                    known.level,
                    company,
                    key_type,
                    len(ids),
                    known.what,
                    known.causes,
                    "" if known.level == "info" else repair_of(known, company),
                    [source],
                    sorted({masked(one) for one in ids if one})[:EXAMPLES],
                    self.details.get((kind, key_type), ""),
                )
            )
        return made


def repair_of(kind: Kind, company: str) -> str:
    """In words."""
    if kind.remedy == "none":
        return f"nothing by itself. {costs_of(kind, company)}"
    verb = "removes them" if kind.remedy == "remove" else "completes them"
    return f"{verb}{'' if kind.is_safe else ', if asked for'}. {kind.costs}"


def costs_of(kind: Kind, company: str) -> str:
    """What the remedy costs or, without one, what to do."""
    return kind.costs.replace("COMPANY", company)


def finding_id(company: str, kind: str, key_type: str) -> str:
    """The same for the same trouble of the same company, whichever source has it."""
    return hashlib.sha256(f"{company}/{kind}/{key_type}".encode()).hexdigest()[:8]


def merged(findings: list[Finding]) -> list[Finding]:
    """What several sources have becomes one; worst first."""
    by_id: dict[str, Finding] = {}
    for one in findings:
        known = by_id.setdefault(one.id, one)
        if known is not one:
            known.count = max(known.count, one.count)
            known.where += [source for source in one.where if source not in known.where]
    order: tuple[Level, ...] = ("error", "warning", "info")
    return sorted(by_id.values(), key=lambda one: (order.index(one.level), one.company, one.kind, one.type))


def kinds_of(findings: list[Finding]) -> Counter[str]:
    """How many findings there are of each kind."""
    return Counter(one.kind for one in findings)
