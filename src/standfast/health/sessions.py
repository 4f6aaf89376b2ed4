"""The sessions' section of the health document, what is found in it, and the rule that judges one session.

Invariant: a session's own word ("open") is never enough where its traffic is known; a thousand sessions in trouble are
a handful of findings.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from standfast.health.document import Finding, FindingLevel, SessionRow, SessionsSection
from standfast.health.thresholds import Thresholds
from standfast.health.words import names, span

Wire = Mapping[str, Any]
SessionVerdict = Literal["ok", "quiet", "down", "stopped", "pairing"]
# Baileys asks for a sign of life every 30 s; three that were missed are no accident.
QUIET_AFTER_S = 90.0
DOWN_AFTER_S = 30.0
MANY = 0.1  # more than this share of the wanted sessions is no single company's trouble
NAMED = 5
TROUBLED = 50
WINDOW_S = 600.0
UNDECRYPTABLE = 10
UNDECRYPTABLE_SHARE = 0.05
_PAIRING = ("qr", "pairing")
_ENDED = ("replaced", "forbidden", "logged_out")
_COUNTERS = (
    "reconnects",
    "undecryptable",
    "retry_receipts_sent",
    "retry_receipts_received",
    "messages_sent",
    "messages_received",
)


def session_verdict(wire: Wire, quiet_after_s: float = QUIET_AFTER_S) -> SessionVerdict:
    """The verdict on a session's wire form."""
    if wire["state"] == "open":
        age_s = wire.get("last_frame_age_s")
        return "quiet" if age_s is not None and age_s > quiet_after_s else "ok"
    if wire["state"] in _PAIRING:
        return "pairing"
    return "down" if wire["wanted"] else "stopped"


class _Sample(NamedTuple):
    at_s: float
    received: int
    undecryptable: dict[str, int]


class SessionTrend:
    """What became of messages lately. `note` is to be called with each look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[_Sample] = deque()

    def note(self, wires: Sequence[Wire]) -> tuple[dict[str, int], int]:
        """How many messages each company could not decrypt within the last ten minutes, and how many came in all."""
        now_s = self._clock()
        failed = {one["company"]: one["undecryptable"] for one in wires if one["undecryptable"]}
        received = sum(one["messages_received"] for one in wires)
        samples = self._samples
        if not samples or now_s - samples[-1].at_s >= WINDOW_S / 60:
            samples.append(_Sample(now_s, received, failed))
        while now_s - samples[0].at_s > WINDOW_S:
            samples.popleft()
        first = samples[0]
        risen = {one: count - first.undecryptable.get(one, 0) for one, count in failed.items()}
        return {one: count for one, count in risen.items() if count > 0}, max(0, received - first.received)


def sessions_section(
    wires: Sequence[Wire],
    hosts: Sequence[Wire],
    waiting: int,
    trend: SessionTrend | None = None,
    quiet_after_s: float = QUIET_AFTER_S,
) -> SessionsSection:
    """`wires` are those of `Session.as_wire`, `hosts` of `Member.as_wire`; `waiting`: messages not yet handed over."""
    verdicts = [session_verdict(wire, quiet_after_s) for wire in wires]
    troubled = [
        (wire, verdict) for wire, verdict in zip(wires, verdicts, strict=True) if _is_troubled(wire, verdict)
    ]
    troubled.sort(key=lambda one: (one[0]["state"] not in _ENDED, one[1] != "down", -one[0]["since_s"]))
    failed, received = trend.note(wires) if trend else ({}, 0)
    serving = [host for host in hosts if not host["retiring"]]
    return SessionsSection(
        total=len(wires),
        wanted=sum(bool(wire["wanted"]) for wire in wires),
        states=dict(Counter(str(wire["state"]) for wire in wires)),
        verdicts=dict(Counter(verdicts)),
        **{name: sum(wire[name] for wire in wires) for name in _COUNTERS},
        waiting=waiting,
        hosts=len(serving),
        hosts_ready=sum(bool(host["ready"]) for host in serving),
        host_restarts=sum(host["restarts"] for host in hosts),
        down=sum(verdict == "down" for _, verdict in troubled),
        troubled=[_row(*one) for one in troubled[:TROUBLED]],
        undecryptable_10min=sum(failed.values()),
        undecryptable_companies=sorted(failed, key=lambda one: -failed[one])[:NAMED],
        messages_received_10min=received,
    )


def _is_troubled(wire: Wire, verdict: str) -> bool:
    """A connection that falls now and then is made anew within seconds: that is nobody's trouble."""
    if wire["state"] == "logged_out":
        return not wire["unlinking"]
    if verdict == "down":
        return wire["state"] in _ENDED or wire["failures"] > 1 or wire["since_s"] >= DOWN_AFTER_S
    return verdict == "quiet"


def _row(wire: Wire, verdict: str) -> SessionRow:
    return SessionRow(
        company=wire["company"],
        state=wire["state"],
        verdict=verdict,
        since_s=wire["since_s"],
        last_frame_age_s=wire["last_frame_age_s"],
        last_message_age_s=wire["last_message_age_s"],
        failures=wire["failures"],
        reason=wire["reason"],
        next_step=wire["next_step"],
    )


def findings(section: SessionsSection, thresholds: Thresholds) -> list[Finding]:
    """Sessions raise their own alerts; these say the same while it goes on."""
    return [
        *_hosts(section),
        *_down(section),
        *_logged_out(section),
        *_quiet(section),
        *_undecryptable(section),
    ]


def _hosts(section: SessionsSection) -> Iterator[Finding]:
    missing = section.hosts - section.hosts_ready
    if not missing and (section.hosts or not section.wanted):
        return
    message = f"{missing} of {section.hosts} Node hosts are not there"
    if not section.hosts_ready:
        message = "no Node host is there: no session can be connected"
    step = "They are started again by themselves; if this stays: 'standfast doctor', and the service's log."
    yield _found("hosts_not_ready", "warning" if section.hosts_ready else "error", message, step)


def _down(section: SessionsSection) -> Iterator[Finding]:
    down = [row for row in section.troubled if row.verdict == "down"]
    is_bad = section.down == section.wanted or (section.down > 1 and section.down > MANY * section.wanted)
    level: FindingLevel = "error" if is_bad else "warning"
    for row in down[:NAMED]:
        why = f": {row.reason}" if row.reason else ""
        message = f"{row.company} is not connected ({row.state} for {span(row.since_s)}){why}"
        step = row.next_step or f"Try it now: standfast restart {row.company}"
        yield _found("session_down", level, message, step, row.company)
    if section.down > NAMED:
        message = f"and {section.down - NAMED} more of {section.wanted} wanted sessions are not connected"
        yield _found("sessions_down", level, message, "See them all: standfast sessions")


def _logged_out(section: SessionsSection) -> Iterator[Finding]:
    gone = [row for row in section.troubled if row.state == "logged_out" and row.verdict != "down"]
    if gone:
        message = f"logged out on the phone: {names([row.company for row in gone])}"
        step = gone[0].next_step or f"Pair it again: standfast pair {gone[0].company}"
        yield _found("session_logged_out", "warning", message, step, _only(gone))


def _quiet(section: SessionsSection) -> Iterator[Finding]:
    quiet = [row for row in section.troubled if row.verdict == "quiet"]
    if not quiet:
        return
    longest_s = max(row.last_frame_age_s or 0 for row in quiet)
    message = (
        f"open, and nothing heard from WhatsApp for up to {span(longest_s)}: "
        f"{names([row.company for row in quiet])}"
    )
    step = f"They are connected anew by themselves; at once: standfast restart {quiet[0].company}"
    yield _found("session_quiet", "warning", message, step, _only(quiet))


def _undecryptable(section: SessionsSection) -> Iterator[Finding]:
    failed, came = section.undecryptable_10min, section.messages_received_10min
    if failed < UNDECRYPTABLE or failed <= UNDECRYPTABLE_SHARE * (failed + came):
        return
    companies = section.undecryptable_companies
    message = f"{failed} messages could not be decrypted within 10 minutes ({came} could): {names(companies)}"
    step = (
        "WhatsApp is asked for them again. If it goes on, another process may use the same auth state: stop it, then "
        f"'standfast restart {companies[0]}'."
    )
    yield _found("undecryptable_rising", "warning", message, step)


def _only(rows: Sequence[SessionRow]) -> str | None:
    return rows[0].company if len(rows) == 1 else None


def _found(code: str, level: FindingLevel, message: str, step: str, company: str | None = None) -> Finding:
    return Finding(
        code=code, section="sessions", level=level, message=message, recommendation=step, company=company
    )
