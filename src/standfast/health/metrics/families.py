"""`Families`: metrics as they are put together for one scrape.

Invariant: a value that is not known makes no sample; a family without samples is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

PREFIX = "standfast_"
Value = float | None
Labelled = Iterable[tuple[Sequence[str], Value]]


class Families(Collector):
    """What the encoders of prometheus_client read. Names are given without their prefix."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}

    def collect(self) -> list[Metric]:
        return [family for family in self._families.values() if family.samples]

    def add(self, families: Iterable[Metric]) -> None:
        """Families of another collector."""
        for family in families:
            self._put(family)

    def gauge(self, name: str, documentation: str, value: Value) -> None:
        if value is not None:
            self._put(GaugeMetricFamily(PREFIX + name, documentation, value=value))

    def counter(self, name: str, documentation: str, value: Value) -> None:
        """`name` without `_total`."""
        if value is not None:
            self._put(CounterMetricFamily(PREFIX + name, documentation, value=value))

    def info(self, name: str, documentation: str, facts: Mapping[str, str]) -> None:
        """`name` without `_info`."""
        self._put(InfoMetricFamily(PREFIX + name, documentation, value=dict(facts)))

    def gauges(self, name: str, documentation: str, labels: Sequence[str], values: Labelled) -> None:
        self._fill(GaugeMetricFamily(PREFIX + name, documentation, labels=labels), values)

    def counters(self, name: str, documentation: str, labels: Sequence[str], values: Labelled) -> None:
        self._fill(CounterMetricFamily(PREFIX + name, documentation, labels=labels), values)

    def counts(self, name: str, documentation: str, label: str, values: Mapping[str, Any]) -> None:
        """A gauge for each key of `values`."""
        self.gauges(name, documentation, [label], (((str(key),), value) for key, value in values.items()))

    def states(self, name: str, documentation: str, label: str, known: Iterable[str], now: str) -> None:
        """1 for the state that is, 0 for the others; one that nobody knew of is shown too."""
        states = dict.fromkeys([*known, now], 0)
        states[now] = 1
        self.counts(name, documentation, label, states)

    def histogram(self, name: str, documentation: str, label: str) -> HistogramMetricFamily:
        """To be filled by the caller."""
        family = HistogramMetricFamily(PREFIX + name, documentation, labels=[label])
        self._put(family)
        return family

    def _fill(self, family: GaugeMetricFamily | CounterMetricFamily, values: Labelled) -> None:
        for labels, value in values:
            if value is not None:
                family.add_metric(labels, value)
        self._put(family)

    def _put(self, family: Metric) -> None:
        assert family.name not in self._families, family.name
        self._families[family.name] = family
