"""Metrics of sessions: counts of all of them, and figures of single companies under a bounded number of labels.

Invariant: a company keeps its label, or its place among `_other`, for as long as the service runs, so that no counter
ever falls because another company came or went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

from standfast.health.document import SessionsSection
from standfast.health.metrics.families import Families
from standfast.health.sessions import SessionVerdict

Wire = Mapping[str, Any]
Figures = dict[str, dict[str, float]]  # name of a figure: company: value
COMPANIES = 200
OTHER = "_other"
STATES = ("connecting", "qr", "pairing", "open", "closed", "replaced", "logged_out", "forbidden")
VERDICTS: tuple[str, ...] = get_args(SessionVerdict)
COUNTERS = (
    "reconnects",
    "undecryptable",
    "retry_receipts_sent",
    "retry_receipts_received",
    "messages_sent",
    "messages_received",
)
SUMMED = ("wanted", "open")
LARGEST = ("failures", "last_frame_age_s", "last_message_age_s", "ping_ms")


class Companies:
    """Which companies have a label of their own, and what the others have counted together."""

    def __init__(self, limit: int = COMPANIES) -> None:
        self._limit = limit
        self._named: set[str] = set()
        self._others: dict[str, dict[str, int]] = {}
        self._counted: Counter[str] = Counter()

    def figures(self, wires: Iterable[Wire]) -> Figures:
        """Every figure of every session, those of companies without a label as one."""
        known = {str(wire["company"]): wire for wire in wires}
        self._named &= known.keys()
        for company in self._others.keys() - known.keys():
            del self._others[company]
        # In the order of their names, so that two nodes, and two runs, choose alike.
        for company in sorted(known.keys() - self._named - self._others.keys()):
            if len(self._named) < self._limit:
                self._named.add(company)
            else:
                self._others[company] = {}
        rest = self._rest(known) if self._others or self._counted else {}
        return figures_of([known[company] for company in sorted(self._named)], rest)

    def _rest(self, known: Mapping[str, Wire]) -> dict[str, float]:
        rows = [_row(known[company]) for company in self._others]
        for company, seen in self._others.items():
            for name in COUNTERS:
                now, before = int(known[company].get(name) or 0), seen.get(name, 0)
                # A session that was made anew counts from nought.
                self._counted[name] += now - before if now >= before else now
                seen[name] = now
        rest: dict[str, float] = {name: self._counted[name] for name in COUNTERS}
        rest |= {name: sum(row[name] or 0 for row in rows) for name in SUMMED}
        for name in LARGEST:
            values = [value for row in rows if (value := row[name]) is not None]
            if values:
                rest[name] = max(values)
        return rest


def figures_of(wires: Iterable[Wire], rest: Mapping[str, float]) -> Figures:
    """`rest` is shown as the company `_other`."""
    figures: Figures = {name: {} for name in (*COUNTERS, *SUMMED, *LARGEST)}
    for wire in wires:
        for name, value in _row(wire).items():
            if value is not None:
                figures[name][str(wire["company"])] = value
    for name, value in rest.items():
        figures[name][OTHER] = value
    return figures


def _row(wire: Wire) -> dict[str, float | None]:
    found: dict[str, float | None] = {name: wire.get(name) for name in (*COUNTERS, *LARGEST)}
    is_open = wire["state"] == "open"
    return found | {"wanted": bool(wire["wanted"]), "open": is_open}


def add_states(out: Families, wires: Collection[Wire]) -> None:
    counts = Counter(dict.fromkeys(STATES, 0))
    counts.update(str(wire["state"]) for wire in wires)
    out.counts("sessions", "Sessions by state.", "state", counts)
    wanted = sum(bool(wire["wanted"]) for wire in wires)
    out.gauge("sessions_wanted", "Sessions that are meant to stand.", wanted)


def add_totals(out: Families, sessions: SessionsSection | None) -> None:
    if sessions is None:
        return
    verdicts = dict.fromkeys(VERDICTS, 0) | sessions.verdicts
    out.counts("sessions_by_verdict", "Sessions as their traffic judges them.", "verdict", verdicts)
    out.gauge("messages_waiting", "Messages that are not yet handed to WhatsApp.", sessions.waiting)
    out.gauge("hosts", "Node hosts.", sessions.hosts)
    out.gauge("hosts_ready", "Node hosts that can take sessions.", sessions.hosts_ready)
    out.counter("host_restarts", "Node hosts that were started again.", sessions.host_restarts)


def add_companies(out: Families, figures: Figures) -> None:
    def gauge(name: str, documentation: str, figure: str, unit: float = 1.0) -> None:
        out.gauges(name, documentation, ["company"], _labelled(figures[figure], lambda value: value * unit))

    def counter(name: str, documentation: str, figure: str) -> None:
        out.counters(name, documentation, ["company"], _labelled(figures[figure]))

    gauge("session_wanted", "Whether it is meant to stand.", "wanted")
    gauge("session_open", "Whether it is connected to WhatsApp.", "open")
    gauge("session_consecutive_failures", "Failed attempts in a row.", "failures")
    gauge("session_last_traffic_age_seconds", "Since anything came from WhatsApp.", "last_frame_age_s")
    gauge("session_last_message_age_seconds", "Since the last message, in or out.", "last_message_age_s")
    gauge("session_ping_seconds", "Round trip of the last ping to WhatsApp.", "ping_ms", 0.001)
    counter("session_reconnects", "Connections that were made anew.", "reconnects")
    counter("session_decrypt_failures", "Messages that could not be decrypted.", "undecryptable")
    _directed(out, "session_messages", "Messages sent and received.", figures, "messages")
    _directed(
        out, "session_retry_receipts", "Requests to send a message once more.", figures, "retry_receipts"
    )


def _directed(out: Families, name: str, documentation: str, figures: Figures, figure: str) -> None:
    values: list[tuple[Sequence[str], float]] = []
    for direction in ("sent", "received"):
        found = figures[f"{figure}_{direction}"].items()
        values += [((company, direction), value) for company, value in found]
    out.counters(name, documentation, ["company", "direction"], values)


def _labelled(
    values: Mapping[str, float], of: Callable[[float], float] = float
) -> Iterable[tuple[Sequence[str], float]]:
    return (((company,), of(value)) for company, value in values.items())
