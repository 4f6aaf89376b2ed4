"""The alerts that sessions raise, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them.
"""

from __future__ import annotations

from typing import Any

from standfast.alert import Alert, Level
from standfast.authstate.company import Company
from standfast.sessions.phone import masked
from standfast.sessions.session import Session

LASTING = ("session_breaker_open", "session_replaced", "session_forbidden", "session_logged_out")


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
        lasts=True,
    )


def breaker_closed(session: Session) -> Alert:
    return _alert(
        session,
        "session_breaker_closed",
        "info",
        f"{session.company} is connected again, and stays so",
        ends=LASTING,
    )


def stands(session: Session) -> Alert:
    """It has been open for long enough to count as connected."""
    message = f"{session.company} is connected, and stays so"
    return _alert(session, "session_stands", "info", message, ends=LASTING, quiet=True)


def unwanted(company: Company) -> Alert:
    """Nobody wants it connected: nobody is to be woken by it."""
    return Alert(
        "session_unwanted",
        "info",
        f"{company} is not to be connected any more",
        _tags(company),
        ends=LASTING,
        quiet=True,
    )


def elsewhere(company: Company) -> Alert:
    """Another node has it: what was wrong with it here is over."""
    return Alert(
        "session_elsewhere",
        "info",
        f"{company} is held by another node",
        _tags(company),
        ends=LASTING,
        quiet=True,
    )


def replaced(session: Session, holder: str | None) -> Alert:
    return _alert(
        session,
        "session_replaced",
        "error",
        f"{session.company} was replaced and does not connect again by itself: {session.reason}",
        holder=holder,
        next_step=session.next_step,
        lasts=True,
    )


def logged_out(session: Session) -> Alert:
    return _alert(
        session,
        "session_logged_out",
        "error",
        f"{session.company} was logged out: {session.reason}. Its auth state is archived, then removed",
        next_step=session.next_step,
        lasts=True,
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
        lasts=True,
    )


def deaf(session: Session, why: str) -> Alert:
    return _alert(
        session,
        "session_deaf",
        "warning",
        f"{session.company} was deaf and is connected anew: {why}",
        next_step="Nothing, unless it comes often: then look at this machine's network and at 'standfast status'.",
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


def _alert(
    session: Session,
    name: str,
    level: Level,
    message: str,
    *,
    lasts: bool = False,
    ends: tuple[str, ...] = (),
    quiet: bool = False,
    **facts: Any,
) -> Alert:
    return Alert(name, level, message, _tags(session.company), facts, lasts=lasts, ends=ends, quiet=quiet)


def _tags(company: Company) -> dict[str, str]:
    return {"component": "sessions", "company_id": company}
