"""`Plan`: how long each part of a drill lasts, in full length and scaled down.

Invariant: what a fast drill has shorter than a full one stands in `scaled`; the product's clocks are set by its
settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from standfast.errors import UsageError

KINDS = ("refused", "dns", "hung", "readonly")
PHASES = (0, 1, 2, 3, 4, 5, 6)
NAMES = {
    0: "Preconditions",
    1: "Cache population",
    2: "Outage",
    3: "Restoration",
    4: "Expiry",
    5: "Alerts",
    6: "Emergency to files and back",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Durations in seconds. `outage_s` is that of the first kind, `short_outage_s` of each other one; messages go at
    its beginning, at two thirds and at the end of each. `beyond_s`: how long past the grace period phase 4 waits;
    `probe_s`: how often a session is opened anew there; `tolerance_s`: how far off the grace period may end."""

    is_fast: bool = False
    kinds: tuple[str, ...] = KINDS
    phases: frozenset[int] = frozenset(PHASES)
    outage_s: float = 180.0
    short_outage_s: float = 20.0
    grace_s: float = 300.0
    beyond_s: float = 60.0
    probe_s: float = 4.0
    tolerance_s: float = 10.0
    connect_timeout_s: float = 3.0
    statement_timeout_s: float = 5.0
    sample_s: float = 0.5
    limit_s: float = 2400.0

    def wants(self, phase: int) -> bool:
        """Preconditions and pairing are the ground of everything else, and are never left out."""
        return phase in self.phases or phase < 2

    @property
    def scaled(self) -> dict[str, tuple[float, float]]:
        """By the name of the setting or of the wait: what a full drill has, and what this one has."""
        full = Plan()
        rows = {
            "CREDENTIALS_CACHE_TTL_MS": (full.grace_s, self.grace_s),
            "POSTGRES_CONNECT_TIMEOUT_MS": (full.connect_timeout_s, self.connect_timeout_s),
            "POSTGRES_STATEMENT_TIMEOUT_MS": (full.statement_timeout_s, self.statement_timeout_s),
            "outage of the first kind": (full.outage_s, self.outage_s),
            "outage of each other kind": (full.short_outage_s, self.short_outage_s),
            "wait past the grace period": (full.beyond_s, self.beyond_s),
            "tolerance of the grace period": (full.tolerance_s, self.tolerance_s),
        }
        return {name: pair for name, pair in rows.items() if pair[0] != pair[1]}

    def settings(self) -> dict[str, str]:
        """The settings that make a service keep to this plan."""
        return {
            "CREDENTIALS_CACHE_TTL_MS": _milliseconds(self.grace_s),
            "POSTGRES_CONNECT_TIMEOUT_MS": _milliseconds(self.connect_timeout_s),
            "POSTGRES_STATEMENT_TIMEOUT_MS": _milliseconds(self.statement_timeout_s),
        }


def plan_of(*, fast: bool, kinds: Sequence[str] = KINDS, phases: Sequence[int] = PHASES) -> Plan:
    """Raises `UsageError` naming the kind or phase that there is not."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UsageError(
            f"there is no kind of outage {unknown[0][:40]!r}" if unknown else "no kind of outage is named",
            next_step=f"Choose among: {', '.join(KINDS)}",
        )
    odd = [phase for phase in phases if phase not in PHASES]
    if odd:
        raise UsageError(f"there is no phase {odd[0]}", next_step="Phases are 0 to 6: docs/drill.md")
    plan = Plan(is_fast=fast, kinds=tuple(dict.fromkeys(kinds)), phases=frozenset(phases))
    if not fast:
        return plan
    return replace(
        plan,
        outage_s=6.0,
        short_outage_s=1.5,
        grace_s=10.0,
        beyond_s=1.5,
        probe_s=0.5,
        tolerance_s=2.0,
        connect_timeout_s=1.0,
        statement_timeout_s=1.0,
        sample_s=0.1,
        limit_s=240.0,
    )


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
