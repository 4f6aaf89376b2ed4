"""The alerts that the service raises itself, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them.
"""

from __future__ import annotations

from standfast.alert import Alert
from standfast.errors import StandfastError

_TAGS = {"component": "service"}


def server_ended(error: StandfastError) -> Alert:
    return Alert(
        "embedded_postgres_ended", "error", error.message, _TAGS, {"next_step": error.next_step}, lasts=True
    )


def server_back(restarts: int) -> Alert:
    return Alert(
        "embedded_postgres_back",
        "info",
        "the embedded PostgreSQL runs again",
        _TAGS,
        {"restarts": restarts},
        ends=("embedded_postgres_ended",),
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
        lasts=True,
    )


def running_from_replica(error: StandfastError) -> Alert:
    """A start that PostgreSQL refused or does not answer, with a replica there."""
    return Alert(
        "started_without_database",
        "error",
        f"started from the replica, because PostgreSQL cannot be used: {error.message}",
        _TAGS,
        {"next_step": error.next_step},
        lasts=True,
    )


def schema_refused(error: StandfastError) -> Alert:
    return Alert(
        "schema_not_ready",
        "error",
        f"the database's schema could not be brought up: {error.message}",
        _TAGS,
        {"next_step": error.next_step},
        lasts=True,
    )


def schema_ready() -> Alert:
    """PostgreSQL answers, and its tables are there: said at each start too."""
    return Alert(
        "schema_ready",
        "info",
        "PostgreSQL can be used: its tables are those of this version",
        _TAGS,
        ends=(
            "schema_not_ready",
            "started_without_database",
            "waiting_for_database",
            "embedded_postgres_ended",
        ),
        quiet=True,
    )


def taken_over(company: str, holder: str) -> Alert:
    return Alert(
        "taken_over",
        "warning",
        f"{company} is started here: the node {holder}, which had it, has been silent for longer than its lease",
        {**_TAGS, "company_id": company},
        {
            "former_holder": holder,
            "next_step": f"See whether {holder} lives: if it does, it was cut off from PostgreSQL, or stood still.",
        },
    )
