"""What a drill's record says in words: the verdict, the figures, the rows of its tables, the same in every form.

Invariant: nothing here judges; a text that came from elsewhere is shown without secrets, phone numbers, paths of the
machine and control characters.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from standfast.drill.record import Criterion, DrillRecord, Moment, Phase, Status
from standfast.redaction import redact_text

MARKS: dict[Status, str] = {"pass": "pass", "fail": "FAIL", "skipped": "skipped"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]+")
# Two components at least, after nothing that would make it a URL's: /var/lib/standfast, not http://host/path.
_PATH = re.compile(r"(?<![\w./:])~?/(?:[\w.@+-]+/)+(?P<last>[\w.@+-]*)")
_GROUPED_S = 5.0
_TOLD_TOGETHER = frozenset({"sent", "received"})


def shown(record: DrillRecord) -> DrillRecord:
    """The record as it may leave this machine."""
    return msgspec.convert(_shown(msgspec.to_builtins(record)), DrillRecord)


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        text = _PATH.sub(lambda found: f"…/{found['last']}", redact_text(value))
        return _CONTROL.sub(" ", text).strip()
    if isinstance(value, dict):
        return {_shown(name): _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def verdict(record: DrillRecord) -> str:
    """One line: passed or failed, and of how many criteria."""
    rows = [*record.acceptance, *record.performance]
    failed = [row for row in rows if row.status == "fail"]
    skipped = sum(row.status == "skipped" for row in rows)
    tried = len(rows) - skipped
    untried = f"; {skipped} not tried" if skipped else ""
    if failed:
        return f"Failed: {len(failed)} of {tried} criteria do not hold{untried}"
    broken = [phase for phase in record.phases if phase.status == "fail"]
    if broken:
        return f"Failed: phase {broken[0].number} ({broken[0].name}) failed{untried}"
    if not tried:
        return f"Failed: nothing was tried{untried}"
    return (
        f"Passed: all {tried} criteria that were tried hold{untried}"
        if skipped
        else f"Passed: all {tried} criteria hold"
    )


def failures(record: DrillRecord) -> list[str]:
    """What does not hold, a line each."""
    rows = [row for row in (*record.acceptance, *record.performance) if row.status == "fail"]
    told = [f"{row.name}: {row.actual}, not {row.target}" + _why(row.why) for row in rows]
    judged = {row.phase for row in rows}
    return told + [
        f"phase {phase.number}, {phase.name}: {phase.why or 'failed'}"
        for phase in record.phases
        if phase.status == "fail" and (phase.why or phase.number not in judged)
    ]


def _why(text: str) -> str:
    return f" ({text})" if text else ""


def facts(record: DrillRecord) -> list[tuple[str, str]]:
    """When, where, how, by which version."""
    rows = [
        ("when", f"{utc(record.started_at)}, {clock(record.duration_s)} long"),
        ("what", sort_of(record)),
        ("node", record.node_name),
        ("version", f"Standfast {record.version}"),
    ]
    if record.outage_kinds:
        rows.append(("outages", ", ".join(record.outage_kinds)))
    return rows


def sort_of(record: DrillRecord) -> str:
    """In full length or scaled, and on what."""
    length = "full length" if record.kind == "full" else "fast: clock settings are scaled down"
    return f"{length}, {'on the running installation' if record.here else 'on parts of its own'}"


def figures(record: DrillRecord) -> list[tuple[str, str]]:
    """What is asked first: how long until it stands again, and what was lost."""
    return [
        ("restart to connected, in the outage", seconds(record.rto_s)),
        ("messages lost", f"{record.messages_lost:,} of {record.messages_sent:,}"),
        ("to files", seconds(record.to_files_s)),
        ("back to PostgreSQL", seconds(record.to_postgres_s)),
    ]


def scaled(record: DrillRecord) -> list[tuple[str, str, str]]:
    """Setting, what it is in a full drill, what it was here."""
    return [(name, seconds(asked), seconds(used)) for name, (asked, used) in sorted(record.scaled.items())]


def criterion(row: Criterion) -> str:
    """What was measured, with the reason where there is one."""
    return (row.actual or "not tried") + _why(row.why)


def phase_time(phase: Phase) -> str:
    return f"{clock(phase.at_s)} to {clock(phase.at_s + phase.duration_s)}"


def seconds(value: float | None) -> str:
    """A duration as it is read: '0.21 s', '14.2 s', '3 min 20 s'; 'not measured'."""
    if value is None:
        return "not measured"
    if value < 10:
        return f"{value:.2f} s"
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes >= 100:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"


def clock(at_s: float) -> str:
    """Since the drill began: '3:05'."""
    minutes, rest = divmod(int(at_s), 60)
    return f"{minutes}:{rest:02d}"


def utc(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def told(moment: Moment) -> str:
    """A moment in words, without its time."""
    subject = f" ({moment.subject})" if moment.subject and moment.subject != moment.text else ""
    lasted = f", {seconds(moment.until_s - moment.at_s)}" if moment.until_s is not None else ""
    return f"{moment.text}{subject}{lasted}"


def story(record: DrillRecord) -> list[tuple[float, str, str]]:
    """Phases and moments in their order, as time, kind and words; messages that came close together in one line."""
    lines: list[tuple[float, str, str]] = []
    moments = sorted(record.moments, key=lambda one: one.at_s)
    phases = sorted(record.phases, key=lambda one: one.at_s)
    bounds = [phase.at_s for phase in phases] + [float("inf")]
    lines += _moments(moments, float("-inf"), bounds[0])
    for phase, until in zip(phases, bounds[1:], strict=True):
        lines.append(
            (phase.at_s, "phase", f"{phase.number} {phase.name}: {MARKS[phase.status]}{_why(phase.why)}")
        )
        lines += _moments(moments, phase.at_s, until)
    return lines


def _moments(moments: Sequence[Moment], since: float, until: float) -> list[tuple[float, str, str]]:
    lines: list[tuple[float, str, str]] = []
    group: list[Moment] = []
    for moment in moments:
        if not since <= moment.at_s < until or moment.kind == "phase":
            continue
        if moment.kind not in _TOLD_TOGETHER:
            lines.append((moment.at_s, moment.kind, told(moment)))
            continue
        if group and moment.at_s - group[0].at_s > _GROUPED_S:
            lines.append(_together(group))
            group = []
        group.append(moment)
    if group:
        lines.append(_together(group))
    return sorted(lines, key=lambda line: line[0])


def _together(group: Sequence[Moment]) -> tuple[float, str, str]:
    kinds = list(dict.fromkeys(one.kind for one in group))
    if len(group) == 1:
        return group[0].at_s, group[0].kind, told(group[0])
    counted = ", ".join(f"{sum(one.kind == kind for one in group)} {kind}" for kind in kinds)
    return group[0].at_s, "messages", counted
