"""What is kept of alerts: `Incident` for people, `Trouble` for the desk's rules.

Invariant: records are JSON-able. A moment named `…_b` is of the boot clock, in seconds; others are since 1970.
"""

from __future__ import annotations

from typing import Any

import msgspec

from standfast.alert import Alert, Level
from standfast.alerts.channel import LEVELS, worst

MESSAGE_CHARS = 2_000
FACTS_BYTES = 8_192


class Incident(msgspec.Struct, kw_only=True):
    """One line of the history. `level` is the worst that it had. `lasts` with `ended` None: it goes on. `count`: how
    often it was reported, `returns`: how often it came back within its cooldown after it was over."""

    id: str
    name: str
    level: Level
    message: str
    since: float
    last_at: float
    lasts: bool
    ended: float | None = None
    duration_s: float | None = None
    count: int = 1
    returns: int = 0
    company: str | None = None
    subject: str = ""
    next_step: str | None = None

    @property
    def is_open(self) -> bool:
        return self.lasts and self.ended is None


class Trouble(msgspec.Struct, kw_only=True):
    """What the desk knows of one fingerprint. `level` is that of the last report. `said`: the worst that was told, or
    is about to be in a digest; it holds until `cool_until_b`. `is_held`: it came back within its cooldown and is told
    only after it. `told`: the channels that were told in this round, `unsaid`: the reports since the last note,
    `noted_b`: when that was."""

    fingerprint: str
    incident: Incident
    level: Level
    tags: dict[str, str]
    facts: dict[str, Any]
    began_b: float
    is_open: bool
    is_held: bool = False
    is_said: bool = False
    said: Level | None = None
    told: list[str] = []
    unsaid: int = 0
    noted_b: float | None = None
    cool_until_b: float | None = None

    def report(self, alert: Alert, at: float) -> None:
        """Note one more report of it; the newest words count."""
        told = self.incident
        told.count += 1
        told.last_at = at
        told.level = worst(told.level, alert.level)
        told.message = alert.message[:MESSAGE_CHARS]
        told.next_step = next_step_of(alert)
        self.unsaid += 1
        self.level = alert.level
        self.tags, self.facts = dict(alert.tags), facts_of(alert)

    def is_worse(self, level: Level) -> bool:
        """Whether `level` is more than was told."""
        return self.said is None or LEVELS.index(level) > LEVELS.index(self.said)

    def is_cooling(self, now_b: float) -> bool:
        return self.cool_until_b is not None and now_b < self.cool_until_b

    def shift(self, seconds: float) -> None:
        """Carry its moments over to a boot clock that stands elsewhere."""
        self.began_b += seconds
        if self.noted_b is not None:
            self.noted_b += seconds
        if self.cool_until_b is not None:
            self.cool_until_b += seconds

    def as_alert(self) -> Alert:
        """As it was last reported."""
        told = self.incident
        return Alert(
            told.name, self.level, told.message, self.tags, self.facts, since=told.since, lasts=self.is_open
        )


def incident_of(alert: Alert, id_: str, since: float, at: float) -> Incident:
    """The incident that begins with `alert`; of an occurrence the whole of it."""
    return Incident(
        id=id_,
        name=alert.name,
        level=alert.level,
        message=alert.message[:MESSAGE_CHARS],
        since=since,
        last_at=at,
        lasts=alert.lasts,
        ended=None if alert.lasts else at,
        company=alert.tags.get("company_id"),
        subject=alert.subject,
        next_step=next_step_of(alert),
    )


def facts_of(alert: Alert) -> dict[str, Any]:
    """The facts as JSON can hold them; of too many only the next step."""
    encoded = msgspec.json.encode(dict(alert.facts), enc_hook=str)
    if len(encoded) > FACTS_BYTES:
        return {"next_step": next_step_of(alert), "facts_left_out_bytes": len(encoded)}
    facts: dict[str, Any] = msgspec.json.decode(encoded)
    return facts


def next_step_of(alert: Alert) -> str | None:
    step = alert.facts.get("next_step")
    return None if step is None else str(step)[:MESSAGE_CHARS]
