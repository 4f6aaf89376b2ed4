"""`Instruments`: what measures the database from its first statement on.

Invariant: made before the database is opened, so that nothing goes past it.
"""

from __future__ import annotations

from standfast.health.outages import OutageTimes
from standfast.health.pool import PoolHistory
from standfast.health.queries import QueryMetrics
from standfast.health.thresholds import thresholds_of
from standfast.postgres.observing import Observers
from standfast.settings import Settings


class Instruments:
    """One for a service; `observers` are those of its databases."""

    def __init__(self, settings: Settings) -> None:
        self.thresholds = thresholds_of(settings)
        self.outages = OutageTimes()
        self.queries = QueryMetrics(self.thresholds, self.outages)
        self.pool = PoolHistory(settings.postgres_max_connections, self.thresholds, self.outages)

    @property
    def observers(self) -> Observers:
        return Observers(self.queries, self.pool)
