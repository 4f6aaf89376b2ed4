"""What an operator is to be told about, and to whom a room says it.

Rooms below `alerts` know only this: they raise an `Alert` at the sink that they were given. Invariant: an alert
holds no secret; company ids, counts, ages and error messages of ours are all that it carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

Level = Literal["info", "warning", "error", "critical"]
_log = structlog.get_logger("standfast.alert")


@dataclass(frozen=True, slots=True)
class Alert:
    """`name` is stable and names the kind (snake_case). `tags` are short texts to group by; `facts` are JSON-able."""

    name: str
    level: Level
    message: str
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class AlertSink(Protocol):
    """Takes alerts. Must be quick and must not raise."""

    def take(self, alert: Alert) -> None:
        """Handle one alert."""
        ...


class LoggedAlerts:
    """The sink of a service that has no other: every alert becomes a line of the log."""

    def take(self, alert: Alert) -> None:
        level = "error" if alert.level == "critical" else alert.level
        getattr(_log, level)(alert.message, alert=alert.name, **alert.tags, **alert.facts)
