"""The vault's section of the health document, and what is found in it.

Invariant: pure: it judges what the vault's own status says, and asks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from standfast.health.document import Finding, FindingLevel, VaultSection
from standfast.health.outage_history import OutageHistory
from standfast.health.thresholds import Thresholds
from standfast.health.words import names, size, span
from standfast.vault.outage import State

GROWING_BYTES = 16 * 2**20
LATE_S = 30.0
ENDING_SHARE = 0.1  # of the grace period
_DOCTOR = "'standfast doctor' says what is wrong between this node and PostgreSQL."


def vault_section(status: Mapping[str, Any], history: OutageHistory | None = None) -> VaultSection:
    """`status` is that of `standfast.vault.status.status_of`; fields that a status seen in a bad moment lacks are taken
    as zero, and `error` says why."""
    journal, replica = status.get("journal") or {}, status.get("replica") or {}
    companies, cause = status.get("companies") or [], status.get("cause") or {}
    count, total_s = history.of_a_day() if history else (0, 0.0)
    return VaultSection(
        state=status.get("state", "unknown"),
        since_s=status.get("since_s", 0.0),
        outage_s=status.get("outage_s"),
        cause=cause.get("message"),
        next_step=cause.get("next_step"),
        confirmed_s=status.get("confirmed_s"),
        grace_s=status.get("grace_s"),
        grace_left_s=_grace_left_s(status),
        durability=status.get("durability", "local"),
        journal_batches=journal.get("batches", 0),
        journal_bytes=journal.get("bytes", 0),
        lag_s=max((one["unsent_s"] for one in companies), default=0.0),
        replica_companies=replica.get("companies", 0),
        replica_bytes=replica.get("bytes", 0),
        replica_age_s=_oldest_s(companies),
        writable=replica.get("writable", True),
        quarantine=status.get("quarantine", 0),
        leases=dict(Counter(one["lease"] for one in companies)),
        stuck=[one["company"] for one in companies if one["stuck"]],
        fenced=[one["company"] for one in companies if one["lease"] == "fenced"],
        error=status.get("error"),
        detached=status.get("detached", False),
        answered=status.get("answered"),
        outages=history.outages() if history else [],
        outages_24h=count,
        outage_s_24h=round(total_s, 1),
    )


def _grace_left_s(status: Mapping[str, Any]) -> float | None:
    limit_s, age_s = status.get("grace_s"), status.get("confirmed_s")
    if limit_s is None:
        return None
    return 0.0 if age_s is None else round(max(0.0, limit_s - age_s), 1)


def _oldest_s(companies: list[dict[str, Any]]) -> float | None:
    ages = [one["replica_age_s"] for one in companies if one["open"] and one["replica_age_s"] is not None]
    return max(ages, default=None)


def findings(section: VaultSection, thresholds: Thresholds) -> list[Finding]:
    """The vault's rooms raise their own alerts; these say the same while it goes on."""
    return [*_outage(section), *_journal(section), *_ownership(section)]


def _outage(section: VaultSection) -> Iterator[Finding]:
    if section.state == State.OUTAGE:
        yield _away(section)
    elif section.state == State.RECOVERING:
        yield _found(
            "recovering",
            "info",
            f"PostgreSQL is back; {section.journal_batches} batches are being carried over",
        )
    elif section.state == State.SUSPECT:
        yield _found("suspect", "info", f"PostgreSQL has not confirmed this node for {span(section.since_s)}")


def _away(section: VaultSection) -> Finding:
    if section.detached:
        return _on_files(section)
    why = f": {section.cause}" if section.cause else ""
    message = f"PostgreSQL has been away for {span(section.outage_s or section.since_s)}{why}"
    mend = section.next_step or _DOCTOR
    left_s = section.grace_left_s
    if left_s is None:
        return _found("outage", "error", f"{message}. Sessions go on from the replica, without a limit", mend)
    if left_s <= 0:
        message = f"{message}. The grace period is over: open sessions stay open, no new connection opens"
        mend = f"{mend} Where this is the only node, OUTAGE_GRACE=unlimited lets sessions open all the same."
        return _found("grace_expired", "critical", message, mend)
    message = f"{message}. Sessions go on from the replica; new connections open for {span(left_s)} more"
    is_ending = section.grace_s is not None and left_s < ENDING_SHARE * section.grace_s
    return _found("outage", "critical" if is_ending else "error", message, mend)


def _on_files(section: VaultSection) -> Finding:
    message = f"this node has stood on files for {span(section.since_s)}; sessions go on, folders follow every write"
    if section.answered:
        return _found(
            "on_files",
            "warning",
            f"{message}. PostgreSQL answers",
            "Go back when it is well: standfast emergency to-postgres",
        )
    step = "Bring PostgreSQL back; then: standfast emergency to-postgres"
    return _found("on_files", "warning", f"{message}. PostgreSQL does not answer", step)


def _journal(section: VaultSection) -> Iterator[Finding]:
    if section.error is not None:
        message = f"the vault's file cannot be read just now: {section.error}"
        step = "It is rebuilt by itself; if this stays, look at the disk and at the service's log."
        yield _found("vault_unreadable", "error", message, step)
    if not section.writable:
        message = (
            "writes cannot be made durable on this machine: nothing is sent, and messages wait at WhatsApp"
        )
        step = "Free space in the state directory, or make it writable; it goes on by itself."
        yield _found("journal_unwritable", "critical", message, step)
    if section.stuck:
        message = f"PostgreSQL refuses the writes of {names(section.stuck)}; they stay in the journal"
        step = "'standfast status' shows what PostgreSQL says of each; mend that, and they are carried over."
        yield _found("replication_stuck", "error", message, step, _only(section.stuck))
    if section.state != State.ONLINE or section.stuck:
        return
    kept = f"{section.journal_batches} batches, {size(section.journal_bytes)}"
    if section.journal_bytes > GROWING_BYTES and section.lag_s > LATE_S:
        message = f"the journal grows though PostgreSQL answers: {kept} wait for it"
        step = "See which statements are slow: 'standfast health --verbose'."
        yield _found("journal_growing", "warning", message, step)
    elif section.lag_s > LATE_S:
        message = f"PostgreSQL is {span(section.lag_s)} behind this node: {kept} wait for it"
        yield _found("replication_late", "warning", message, _DOCTOR)


def _ownership(section: VaultSection) -> Iterator[Finding]:
    if section.fenced:
        first = section.fenced[0]
        message = f"another node owns {names(section.fenced)}, which this one had"
        step = f"Let it run there, or stop it there and take it back: standfast restart {first}"
        yield _found("fenced", "warning", message, step, _only(section.fenced))
    if section.quarantine:
        message = f"{section.quarantine} journals lie in quarantine: writes that another owner overtook"
        yield _found("quarantine", "warning", message, "Decide on each: 'standfast quarantine list'.")


def _only(companies: list[str]) -> str | None:
    return companies[0] if len(companies) == 1 else None


def _found(
    code: str, level: FindingLevel, message: str, step: str | None = None, company: str | None = None
) -> Finding:
    return Finding(
        code=code, section="vault", level=level, message=message, recommendation=step, company=company
    )
