"""What Prometheus reads: the health document, every session's counters and the durations of statements, as metrics.

Invariant: names, units and labels are documented in docs/metrics.md and never change their meaning; every label has
a bounded number of values, and none holds a secret or a phone number.
"""

from standfast.health.metrics.exposition import Metrics, Scrape

__all__ = ["Metrics", "Scrape"]
