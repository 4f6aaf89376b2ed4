"""A made-up record of a drill, for tests of what is made from one."""

from __future__ import annotations

from typing import Any

import msgspec

from standfast.drill.record import Criterion, DrillRecord, Moment, Phase

BEGAN = 1_790_000_000.0
_NAMES = (
    "Preconditions",
    "Cache population",
    "Outage",
    "Restoration",
    "Expiry",
    "Alerts",
    "Emergency to files and back",
)
_LENGTHS_S = (4.0, 9.0, 200.0, 12.0, 370.0, 6.0, 40.0)


def made_up(**changes: Any) -> DrillRecord:
    """A full drill that went well, but for what `changes` say."""
    return msgspec.structs.replace(_whole(), **changes)


def _whole() -> DrillRecord:
    starts = [sum(_LENGTHS_S[:number]) for number in range(7)]
    phases = [
        Phase(number=number, name=name, at_s=starts[number], duration_s=_LENGTHS_S[number], status="pass")
        for number, name in enumerate(_NAMES)
    ]
    return DrillRecord(
        id="20260921T142640Z",
        version="0.1.0",
        started_at=BEGAN,
        duration_s=sum(_LENGTHS_S),
        kind="full",
        here=False,
        node_name="drill",
        scaled={},
        outage_kinds=["refused", "dns", "hung", "readonly"],
        phases=phases,
        acceptance=_acceptance(),
        performance=_performance(),
        moments=_moments(),
        messages_sent=12,
        messages_lost=0,
        rto_s=1.42,
        to_files_s=0.8,
        to_postgres_s=2.1,
    )


def _acceptance() -> list[Criterion]:
    rows = (
        (1, "Cache is populated", "every key in the replica", "828 of 828 keys"),
        (2, "Messages go on in the outage", "at 0, 2 and 3 min", "12 of 12"),
        (2, "A restart in the outage connects", "from the replica", "connected"),
        (3, "Saves resume", "PostgreSQL equals the replica", "equal, 31 batches carried"),
        (4, "Opening fails after the grace period", "grace_expired", "grace_expired"),
        (5, "Alerts are received", "began, half, expired, restored", "4 of 4"),
        (6, "Emergency to files and back", "sessions stand", "2 of 2 open"),
    )
    return [
        Criterion(name=name, target=target, actual=actual, status="pass", phase=phase)
        for phase, name, target, actual in rows
    ]


def _performance() -> list[Criterion]:
    rows = (
        (1, "cache population", "< 1 s", "0.21 s", 0.21, 1.0, "s", ""),
        (2, "fallback", "< 1 s", "0.04 s", 0.04, 1.0, "s", ""),
        (2, "uptime in the outage", "100 %", "100 %", 100.0, 100.0, "%", ""),
        (4, "expiry", "300 s ± 10 s", "301.2 s", 301.2, 310.0, "s", ""),
        (2, "restart to connected", "< 2 s", "1.42 s", 1.42, 2.0, "s", "40 s"),
        (6, "to files", "< 12 s", "0.80 s", 0.8, 12.0, "s", "12 s"),
        (6, "back to PostgreSQL", "< 12 s", "2.10 s", 2.1, 12.0, "s", "12 s"),
        (2, "messages lost", "0", "0", 0.0, 0.0, "count", ""),
    )
    return [
        Criterion(
            name=name,
            target=target,
            actual=actual,
            status="pass",
            phase=phase,
            value=value,
            limit=limit,
            unit=unit,
            legacy=legacy,
        )
        for phase, name, target, actual, value, limit, unit, legacy in rows
    ]


def _moments() -> list[Moment]:
    moments = [
        Moment(at_s=13, until_s=193, kind="outage", text="refused", subject="refused"),
        Moment(at_s=194, until_s=199, kind="outage", text="name does not resolve", subject="dns"),
        Moment(at_s=200, until_s=205, kind="outage", text="hung", subject="hung"),
        Moment(at_s=206, until_s=211, kind="outage", text="read-only", subject="readonly"),
        Moment(at_s=100, until_s=101.42, kind="restart", text="kill -9, then started again"),
        Moment(at_s=213, kind="restored", text="PostgreSQL answers"),
        Moment(at_s=214.4, kind="saved", text="journal empty"),
        Moment(at_s=6, kind="state", text="open", subject="drill-a"),
        Moment(at_s=100, kind="state", text="closed", subject="drill-a"),
        Moment(at_s=101.4, kind="state", text="open", subject="drill-a"),
        Moment(at_s=14, kind="alert", text="outage_began", subject="error"),
        Moment(at_s=163, kind="alert", text="grace_half_used", subject="warning"),
        Moment(at_s=600, kind="command", text="standfast emergency to-files --yes", until_s=600.8),
        Moment(at_s=612, kind="command", text="standfast emergency to-postgres --yes", until_s=614.1),
    ]
    for at_s in (13.5, 133.0, 192.0):
        moments += [
            Moment(at_s=at_s, kind="sent", text="to the contact", subject="drill-a"),
            Moment(at_s=at_s + 0.04, kind="received", text="by the contact", subject="contact"),
            Moment(at_s=at_s + 1.0, kind="sent", text="from the contact", subject="contact"),
            Moment(at_s=at_s + 1.05, kind="received", text="from the contact", subject="drill-a"),
        ]
    return sorted(moments, key=lambda one: one.at_s)
