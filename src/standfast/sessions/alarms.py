"""The alerts that sessions raise, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them.
"""

from __future__ import annotations

from typing import Any

from standfast.alert import Alert, Level
from standfast.sessions.phone import masked
from standfast.sessions.session import Session


def breaker_open(session: Session, pause_s: float) -> Alert:
    return _alert(
        session,
        "session_breaker_open",
        "error",
        f"{session.company} failed {session.failures} times in a row and is tried again in {pause_s:.0f} s: "
        f"{session.reason}",
        failures=session.failures,
        retry_in_s=round(pause_s),
        status=session.status,
        next_step=f"docs/sessions.md says what the codes mean; 'standfast restart {session.company}' tries it now.",
    )


def breaker_closed(session: Session) -> Alert:
    return _alert(
        session, "session_breaker_closed", "info", f"{session.company} is connected again, and stays so"
    )


def replaced(session: Session, holder: str | None) -> Alert:
    return _alert(
        session,
        "session_replaced",
        "error",
        f"{session.company} was replaced and does not connect again by itself: {session.reason}",
        holder=holder,
        next_step=session.next_step,
    )


def logged_out(session: Session) -> Alert:
    return _alert(
        session,
        "session_logged_out",
        "error",
        f"{session.company} was logged out: {session.reason}. Its auth state is archived, then removed",
        next_step=session.next_step,
    )


def forbidden(session: Session) -> Alert:
    return _alert(
        session,
        "session_forbidden",
        "critical",
        f"WhatsApp refuses {session.company} (code {session.status}) and it is not tried again by itself: "
        f"{session.reason}",
        status=session.status,
        next_step=session.next_step,
    )


def deaf(session: Session, why: str) -> Alert:
    return _alert(
        session, "session_deaf", "warning", f"{session.company} was deaf and is connected anew: {why}"
    )


def another_number(session: Session, before: str, now: str) -> Alert:
    return _alert(
        session,
        "paired_with_another_number",
        "warning",
        f"{session.company} was paired with another number ({masked(now)}) than before ({masked(before)})",
        before=masked(before),
        now=masked(now),
        next_step=f"If that is the wrong phone: 'standfast logout {session.company}', then pair it anew.",
    )


def _alert(session: Session, name: str, level: Level, message: str, **facts: Any) -> Alert:
    return Alert(name, level, message, {"component": "sessions", "company_id": session.company}, facts)
