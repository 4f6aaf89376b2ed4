"""Which scenario of the runbook fits what health shows, and what to look at first.

Invariant: it only reads a picture that somebody else has taken; where nothing fits it says so, and sends nobody into a
scenario that is not theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from standfast.health.document import Health
from standfast.health.words import span

_SERVICE = ("service_down", "service_hangs", "service_silent", "service_absent")
_AWAY = ("outage", "grace_expired", "database_unavailable", "database_rejected")
_EMPTY = ("lacks a table", "does not exist", "another database")
_UNREADABLE = ("the creds ", "cannot be read", "damaged")
_GONE = "has no auth state"
_DAMAGE_ALERTS = ("backup_bad", "restore_test_failed", "replica_corrupt")


class Situation(NamedTuple):
    """`scenario`: its name, None where none fits. `because`: why it does. `facts`: what stands and what does not.
    `commands`: what to run first; nothing of it changes anything. `company`: whom it concerns, where that is one."""

    scenario: str | None
    because: str
    facts: tuple[str, ...]
    commands: tuple[str, ...]
    company: str | None = None


def situation(health: Health) -> Situation:
    """The first that fits, the worst first."""
    facts = tuple(_facts(health))
    for look in (_on_files, _no_service, _lost, _unreachable, _unreadable, _deleted, _undecryptable):
        found = look(health)
        if found is not None:
            return found._replace(facts=facts)
    because = "none of the four scenarios fits what health shows"
    return Situation(None, because, facts, ("standfast health", "standfast doctor --quiet"))


def _facts(health: Health) -> Iterator[str]:
    database, vault, sessions = health.database, health.vault, health.sessions
    if vault is not None and vault.outage_s is not None and not vault.detached:
        yield f"PostgreSQL has been away for {span(vault.outage_s)}: {vault.cause or 'no answer'}"
    elif database is not None and not (vault is not None and vault.detached):
        yield f"PostgreSQL is {database.state}" + (f": {database.error}" if database.error else "")
    if sessions is not None:
        stand = sessions.verdicts.get("ok", 0) + sessions.verdicts.get("quiet", 0)
        yield f"{stand} of {sessions.wanted} sessions stand"
    if vault is not None:
        yield from _of_vault(health)


def _of_vault(health: Health) -> Iterator[str]:
    vault = health.vault
    assert vault is not None
    batches = f"{vault.journal_batches:,} batches are safe on this machine's disk alone"
    yield f"this machine's replica has {vault.replica_companies:,} companies; " + (
        batches if vault.journal_batches else "PostgreSQL has every write of it"
    )
    if vault.outage_s is not None and vault.grace_left_s is not None and not vault.detached:
        left = f"{span(vault.grace_left_s)} more" if vault.grace_left_s > 0 else "no more"
        yield f"sessions that drop can come back for {left} (grace period)"


def _on_files(health: Health) -> Situation | None:
    if health.vault is None or not health.vault.detached:
        return None
    answers = "answers" if health.vault.answered else "does not answer"
    commands = ("standfast emergency status", "standfast emergency to-postgres --dry-run")
    return Situation("unreachable", f"this node stands on files, and PostgreSQL {answers}", (), commands)


def _no_service(health: Health) -> Situation | None:
    found = next((one for one in health.findings if one.code in _SERVICE), None)
    if found is None:
        return None
    scenario = "unreachable" if _codes(health, _AWAY) and not _embedded(health) else None
    return Situation(scenario, found.message, (), ("standfast doctor --quiet", "standfast alerts"))


def _lost(health: Health) -> Situation | None:
    told = _away(health)
    if not any(words in told for words in _EMPTY):
        return None
    commands = ("standfast status", "standfast backup restore latest --dry-run")
    return Situation("loss", f"PostgreSQL answers, and is not what it was: {told}", (), commands)


def _unreachable(health: Health) -> Situation | None:
    told = _away(health)
    if not told:
        return None
    commands = ("standfast status", "standfast doctor --quiet --offline")
    return Situation("unreachable", told, (), commands)


def _unreadable(health: Health) -> Situation | None:
    company = _session(health, lambda reason: any(words in reason for words in _UNREADABLE))
    if company is not None:
        because = f"the auth state of {company} cannot be read"
        return Situation("corruption", because, (), (f"standfast verify {company}",), company)
    alerts = [one for one in (health.alerts.open if health.alerts else []) if one.name in _DAMAGE_ALERTS]
    if not alerts:
        return None
    return Situation(
        "corruption", alerts[0].message, (), ("standfast alerts --open", "standfast backup list")
    )


def _deleted(health: Health) -> Situation | None:
    company = _session(health, lambda reason: _GONE in reason)
    if company is not None:
        restore = f"standfast backup restore latest --company {company} --dry-run"
        because = f"{company} has no auth state any more"
        return Situation("deletion", because, (), ("standfast sessions", restore), company)
    keys, vault = health.keys, health.vault
    if keys is None or vault is None or keys.auth_records >= vault.replica_companies:
        return None
    because = (
        f"PostgreSQL has {keys.auth_records:,} companies, this machine's replica {vault.replica_companies:,}"
    )
    commands = ("standfast sessions", "standfast backup restore latest --dry-run")
    return Situation("deletion", because, (), commands)


def _undecryptable(health: Health) -> Situation | None:
    found = next((one for one in health.findings if one.code == "undecryptable_rising"), None)
    if found is None:
        return None
    return Situation("corruption", found.message, (), ("standfast verify",), found.company)


def _session(health: Health, fits: Callable[[str], bool]) -> str | None:
    rows = health.sessions.troubled if health.sessions else []
    return next((row.company for row in rows if row.reason and fits(row.reason)), None)


def _codes(health: Health, codes: tuple[str, ...]) -> list[str]:
    return [one.message for one in health.findings if one.code in codes]


def _embedded(health: Health) -> bool:
    """An embedded server that does not run for lack of its service is no trouble of its own."""
    return health.database is not None and health.database.embedded


def _away(health: Health) -> str:
    """Why PostgreSQL cannot be used; empty where it can, or where nobody knows better."""
    if health.vault is not None and health.vault.state in ("online", "recovering"):
        return ""
    return next(iter(_codes(health, _AWAY)), "")
