"""Where the service's alerts go, and those that it raises itself.

Invariant: an alert reaches the log and every subscriber of events, whoever raised it; nobody's failure stops it.
"""

from __future__ import annotations

import time

from standfast.alert import Alert, AlertSink, LoggedAlerts
from standfast.errors import StandfastError
from standfast.sessions.events import Event, EventBus

KIND = "alert"


class BusAlerts:
    """Hands each alert to `sink` (the log) and, as an event of kind `alert`, to the bus. An alert of the whole node
    has an empty company."""

    def __init__(self, bus: EventBus, sink: AlertSink | None = None) -> None:
        self._bus = bus
        self._sink = sink or LoggedAlerts()

    def take(self, alert: Alert) -> None:
        if alert.quiet:
            return
        self._sink.take(alert)
        company = alert.tags.get("company_id", "")
        self._bus.publish(Event(company, KIND, {"company": company, "kind": KIND, **as_wire(alert)}))


def as_wire(alert: Alert) -> dict[str, object]:
    """The JSON form of an alert; `at` in seconds since 1970."""
    return {
        "name": alert.name,
        "level": alert.level,
        "message": alert.message,
        "tags": dict(alert.tags),
        "facts": dict(alert.facts),
        "at": round(time.time(), 3),
    }


_TAGS = {"component": "service"}


def server_ended(error: StandfastError) -> Alert:
    return Alert("embedded_postgres_ended", "error", error.message, _TAGS, {"next_step": error.next_step})


def server_back(restarts: int) -> Alert:
    return Alert(
        "embedded_postgres_back", "info", "the embedded PostgreSQL runs again", _TAGS, {"restarts": restarts}
    )


def nothing_opens_yet(error: StandfastError) -> Alert:
    """A start without PostgreSQL and without a replica."""
    return Alert(
        "waiting_for_database",
        "error",
        f"no session can open yet: {error.message}; and this node has no replica to go on from. "
        "It goes on by itself when PostgreSQL answers",
        _TAGS,
        {"next_step": error.next_step},
    )


def running_from_replica(error: StandfastError) -> Alert:
    """A start that PostgreSQL refused or does not answer, with a replica there."""
    return Alert(
        "started_without_database",
        "error",
        f"started from the replica, because PostgreSQL cannot be used: {error.message}",
        _TAGS,
        {"next_step": error.next_step},
    )


def schema_refused(error: StandfastError) -> Alert:
    return Alert(
        "schema_not_ready",
        "error",
        f"the database's schema could not be brought up: {error.message}",
        _TAGS,
        {"next_step": error.next_step},
    )


def taken_over(company: str, holder: str) -> Alert:
    return Alert(
        "taken_over",
        "warning",
        f"{company} is started here: the node {holder}, which had it, has been silent for longer than its lease",
        {**_TAGS, "company_id": company},
        {"former_holder": holder},
    )
