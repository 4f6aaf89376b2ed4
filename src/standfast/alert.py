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
_GROUPS = frozenset(
    {"component", "section", "operation", "fallback"}
)  # tags that are the same for all of a kind
_log = structlog.get_logger("standfast.alert")


@dataclass(frozen=True, slots=True)
class Alert:
    """`name` is stable and names the kind (snake_case). `tags` are short texts to group by; `facts` are JSON-able, and
    `facts["next_step"]` says what to do.

    `lasts`: the trouble goes on until an alert comes whose `ends` names it, with the same subject. `quiet`: there may
    be nothing to end, and then there is nothing to tell. `since`: when it began, in seconds since 1970; None: now.
    """

    name: str
    level: Level
    message: str
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    since: float | None = None
    lasts: bool = False
    ends: tuple[str, ...] = ()
    quiet: bool = False

    @property
    def subject(self) -> str:
        """Whom it concerns, such as "company_id=acme"; empty for the whole node."""
        return ",".join(f"{tag}={self.tags[tag]}" for tag in sorted(self.tags) if tag not in _GROUPS)

    @property
    def fingerprint(self) -> str:
        """The same for every report of the same trouble."""
        return f"{self.name}|{self.subject}"


class AlertSink(Protocol):
    """Takes alerts. Must be quick and must not raise."""

    def take(self, alert: Alert) -> None:
        """Handle one alert."""
        ...


class LoggedAlerts:
    """The sink of a service that has no other: every alert becomes a line of the log."""

    def take(self, alert: Alert) -> None:
        if alert.quiet:
            return
        level = "error" if alert.level == "critical" else alert.level
        fields = {**alert.facts, **alert.tags, "alert": alert.name}
        fields.pop("event", None)  # what structlog calls the message itself
        getattr(_log, level)(alert.message, **fields)
