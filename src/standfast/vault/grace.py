"""`Grace`: for how long a new connection may be opened from the replica.

Invariant: the age counts from the last moment at which PostgreSQL confirmed the lease, on a clock that nobody sets;
where that moment is not known the answer is no.
"""

from __future__ import annotations

from standfast.authstate.company import Company
from standfast.errors import DatabaseUnavailable, GraceExpired, StandfastError
from standfast.vault.clock import Clock
from standfast.vault.confirmation import Confirmation, Stamp
from standfast.vault.options import VaultOptions
from standfast.vault.storage.damage import Damage
from standfast.vault.storage.replica import Record


class Grace:
    """Judges the age of a company's replica against the limit."""

    def __init__(self, confirmation: Confirmation, options: VaultOptions, clock: Clock) -> None:
        self.limit_s = options.grace_s
        self.is_waived = False  # while PostgreSQL is left alone by decision
        self._is_unlimited = options.unlimited_grace
        self._confirmation = confirmation
        self._clock = clock

    @property
    def is_unlimited(self) -> bool:
        return self._is_unlimited or self.is_waived

    def node_age_s(self) -> float | None:
        """Seconds since PostgreSQL last confirmed this node; None where that is not known."""
        return self._confirmation.age_s()

    def age_s(self, record: Record) -> float | None:
        """Seconds since PostgreSQL last confirmed this node's lease on the company; None: not known."""
        if record.held:
            return self.node_age_s()
        return Stamp.from_text(record.confirmed).age_s(self._clock) if record.confirmed else None

    def check(self, company: Company, age_s: float | None, failure: StandfastError | None) -> None:
        """Raises `GraceExpired` where a connection may not be opened any more."""
        if self.is_unlimited or (age_s is not None and age_s <= self.limit_s):
            return
        known = f"{age_s:.0f} s ago" if age_s is not None and age_s != float("inf") else "at an unknown time"
        why = f" ({failure.message})" if failure else ""
        raise GraceExpired(
            f"PostgreSQL is away{why}; it confirmed {company} {known}: past the grace period of {self.limit_s:g} s",
            age_s=None if age_s is None or age_s == float("inf") else round(age_s, 1),
            limit_s=self.limit_s,
        )

    def no_replica(
        self, company: Company, failure: StandfastError | None, damage: Damage | None = None
    ) -> DatabaseUnavailable:
        """PostgreSQL is away, and this node cannot do without it for this company; `damage` may be why."""
        lost = f": it was damaged ({damage.what}) and moved aside" if damage else ""
        why = f": {failure.message}" if failure else ""
        cause = str(failure.facts.get("cause", "timeout")) if failure else "timeout"
        return DatabaseUnavailable(
            f"PostgreSQL is away{why}; and this node has no whole replica of {company} to open it from{lost}",
            next_step=failure.next_step if failure else None,
            cause=cause,
        )
