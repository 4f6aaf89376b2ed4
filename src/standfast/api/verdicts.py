"""What health says: each session judged by its traffic, and the service by what it can still do.

Invariant: nothing here asks or waits; a session's own word ("open") is never enough where its traffic is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from standfast.api.answers import Health, SessionHealth
from standfast.health.sessions import session_verdict


def session_health(session: Mapping[str, Any]) -> SessionHealth:
    """The verdict on a session's wire form."""
    frame_age_s = session.get("last_frame_age_s")
    return SessionHealth(
        company=session["company"],
        verdict=session_verdict(session),
        state=session["state"],
        judged_by="state" if frame_age_s is None or session["state"] != "open" else "traffic",
        last_frame_age_s=frame_age_s,
        last_message_age_s=session.get("last_message_age_s"),
        reason=session.get("reason"),
        next_step=session.get("next_step"),
    )


def health(status: Mapping[str, Any], waiting: int, companies: tuple[str, ...] | None) -> Health:
    """The summary of the service's status, with the sessions of `companies` (None: all)."""
    shown = [one for one in status["sessions"] if companies is None or one["company"] in companies]
    sessions = [session_health(one) for one in shown]
    host_ready = bool(status["host"].get("ready"))
    database, vault = status["database"]["state"], status["vault"].get("state", "unknown")
    wanted = [one.verdict for one in sessions if one.verdict not in ("stopped", "pairing")]
    if not host_ready or (wanted and "ok" not in wanted):
        summary = "down"
    elif database != "online" or vault != "online" or any(verdict != "ok" for verdict in wanted):
        summary = "degraded"
    else:
        summary = "ok"
    return Health(
        status=summary,  # type: ignore[arg-type]
        service=status["service"],
        uptime_s=status["uptime_s"],
        database=database,
        vault=vault,
        host_ready=host_ready,
        waiting=waiting,
        sessions=sessions,
    )
