"""The alerts that the vault raises, each with its stable name and its words.

Invariant: one function for one kind; names and tags never change, because operators' rules match them. What ends a
lasting one is said again by the next process: the one that raised it may not live to see its end.
"""

from __future__ import annotations

from pathlib import Path

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.vault.storage.damage import Damage

_VAULT = {"component": "vault"}
_ENDED_BY_DATABASE = ("outage_began", "grace_half_used", "grace_expired")
_ENDED_BY_DELIVERY = ("journal_growing", "replication_stuck")
_BRING_BACK = (
    "Bring PostgreSQL back: 'standfast doctor' says what is wrong. Where this is the only node, OUTAGE_GRACE=unlimited "
    "and a restart let sessions connect without it."
)


def cached_credentials(company: Company, age_s: float | None, error: StandfastError | None) -> Alert:
    """A connection was opened from the replica. The message and tags are those of the legacy system."""
    return Alert(
        "cached_credentials",
        "warning",
        "Using cached credentials due to PostgreSQL failure",
        {
            "component": "baileys_auth",
            "operation": "load_credentials_from_cache",
            "company_id": company,
            "fallback": "cache",
        },
        {
            "cache_age_s": None if age_s is None else round(age_s, 1),
            "original_error": error.message if error else None,
            "code": str(error.facts.get("cause", error.code)) if error else None,
            "next_step": "Bring PostgreSQL back before the grace period ends: 'standfast health' shows how long it is.",
        },
    )


def outage_began(error: StandfastError | None) -> Alert:
    return Alert(
        "outage_began",
        "error",
        "PostgreSQL is away; sessions go on from the replica",
        _VAULT,
        {"error": error.message if error else None, "next_step": error.next_step if error else None},
        lasts=True,
    )


def restored(duration_s: float, batches: int) -> Alert:
    return Alert(
        "restored",
        "info",
        "PostgreSQL is back and has everything that was written meanwhile",
        _VAULT,
        {"duration_s": round(duration_s, 1), "batches_replayed": batches},
        ends=_ENDED_BY_DATABASE,
    )


def database_stands() -> Alert:
    """PostgreSQL confirms this node, and no outage of this process goes on."""
    return Alert(
        "database_stands",
        "info",
        "PostgreSQL confirms this node again",
        _VAULT,
        ends=_ENDED_BY_DATABASE,
        quiet=True,
    )


def grace_half_used(age_s: float, limit_s: float) -> Alert:
    return Alert(
        "grace_half_used",
        "warning",
        "half of the grace period is used: bring PostgreSQL back before a session has to reconnect without it",
        _VAULT,
        {"age_s": round(age_s, 1), "limit_s": limit_s, "next_step": _BRING_BACK},
        lasts=True,
    )


def grace_expired(age_s: float, limit_s: float, companies: int) -> Alert:
    return Alert(
        "grace_expired",
        "critical",
        "the grace period is over: sessions that are open stay open, but no new connection opens from the replica",
        _VAULT,
        {
            "age_s": round(age_s, 1),
            "limit_s": limit_s,
            "companies": companies,
            "next_step": _BRING_BACK,
        },
        lasts=True,
    )


def fenced(company: Company, batches: int, quarantine_id: int | None, why: str) -> Alert:
    kept = f"{batches} batches are in quarantine: 'standfast quarantine show {quarantine_id}'"
    step = "Nothing, where the other owner is meant to have it; 'standfast sessions' there shows that it has."
    if quarantine_id is not None:
        step = (
            f"See what the other owner lacks: 'standfast quarantine show {quarantine_id}'; merge it: 'standfast "
            f"quarantine apply {quarantine_id}'."
        )
    return Alert(
        "fenced",
        "critical" if quarantine_id is not None else "warning",
        f"this node no longer owns {company}: {why}" + (f"; {kept}" if quarantine_id is not None else ""),
        {**_VAULT, "company_id": company},
        {"batches": batches, "quarantine": quarantine_id, "next_step": step},
        ends=_ENDED_BY_DELIVERY,  # there is no journal here any more
    )


def diverged(company: Company, keys: int) -> Alert:
    return Alert(
        "diverged",
        "error",
        f"PostgreSQL holds an older state of {company} than it had confirmed (restored from a copy?); "
        "it was brought up to date from the replica",
        {**_VAULT, "company_id": company},
        {
            "keys": keys,
            "next_step": "Find out who restored PostgreSQL, or switched to a replica that lagged.",
        },
    )


def foreign_database(companies: int, journaled: int, copy: Path | None) -> Alert:
    kept = "nothing of the replica was written there"
    step = "Correct its address ('standfast config' shows it) and restart; or, if this one is meant, just restart."
    if copy is not None:
        kept = f"the replica was begun anew; what it held lies in {copy}"
        step = (
            "If this database was not meant: correct its address ('standfast config' shows it) and restart."
        )
    return Alert(
        "foreign_database",
        "critical" if copy is None or journaled else "warning",
        f"PostgreSQL is another database than the one that this node's replica belongs to; {kept}",
        _VAULT,
        {"companies": companies, "companies_with_journal": journaled, "next_step": step},
        lasts=copy is None,
        ends=() if copy is None else ("foreign_database",),
    )


def own_database() -> Alert:
    """What answers is the database that the replica belongs to."""
    return Alert(
        "own_database",
        "info",
        "PostgreSQL is the database that this node's replica belongs to",
        _VAULT,
        ends=("foreign_database",),
        quiet=True,
    )


def node_shared(node: str) -> Alert:
    return Alert(
        "node_shared",
        "critical",
        f"another process speaks for this very node ({node}): its state directory was copied, or is used twice; each "
        "takes the other's companies away",
        _VAULT,
        {
            "next_step": "Stop one of both, and remove the directory 'vault' from the state directory of the copy."
        },
        lasts=True,
    )


def node_alone() -> Alert:
    return Alert(
        "node_alone",
        "info",
        "no other process speaks for this node",
        _VAULT,
        ends=("node_shared",),
        quiet=True,
    )


def replica_corrupt(damage: Damage) -> Alert:
    missing = f"; {damage.lost} acknowledged batches are lost" if damage.lost else ""
    if damage.torn:
        missing += "; what was acknowledged last may be lost where PostgreSQL did not have it yet"
    return Alert(
        "replica_corrupt",
        "critical" if damage.lost or damage.torn else "error",
        f"the replica was damaged ({damage.what}); it was moved aside and is rebuilt from PostgreSQL{missing}",
        _VAULT,
        {
            "moved_to": None if damage.moved_to is None else str(damage.moved_to),
            "companies": len(damage.companies),
            "batches_salvaged": damage.salvaged,
            "batches_lost": damage.lost,
            "next_step": "Check the disk (dmesg, smartctl) and keep what was moved aside until sessions stand again.",
        },
    )


def journal_growing(company: Company, batches: int, size_bytes: int, oldest_s: float) -> Alert:
    return Alert(
        "journal_growing",
        "warning",
        f"the journal of {company} grows: PostgreSQL has not taken its writes",
        {**_VAULT, "company_id": company},
        {
            "batches": batches,
            "bytes": size_bytes,
            "oldest_s": round(oldest_s),
            "next_step": "See why PostgreSQL does not take them: 'standfast health'.",
        },
        lasts=True,
    )


def journal_carried(company: Company, *, wholly: bool) -> Alert:
    """The journal does not grow any more; `wholly`: there is nothing left in it."""
    return Alert(
        "journal_carried",
        "info",
        f"PostgreSQL takes the journal of {company} again",
        {**_VAULT, "company_id": company},
        ends=_ENDED_BY_DELIVERY if wholly else ("journal_growing",),
        quiet=True,
    )


def replication_stuck(company: Company, error: StandfastError) -> Alert:
    return Alert(
        "replication_stuck",
        "error",
        f"PostgreSQL refuses the writes of {company}; they stay in the journal: {error.message}",
        {**_VAULT, "company_id": company},
        {"next_step": error.next_step, "code": error.code},
        lasts=True,
    )


def replication_goes_on(company: Company) -> Alert:
    return Alert(
        "replication_goes_on",
        "info",
        f"PostgreSQL takes the writes of {company} again",
        {**_VAULT, "company_id": company},
        ends=("replication_stuck",),
        quiet=True,
    )


def journal_unwritable(error: StandfastError) -> Alert:
    return Alert(
        "journal_unwritable", "critical", error.message, _VAULT, {"next_step": error.next_step}, lasts=True
    )


def journal_writable_again(*, quiet: bool = False) -> Alert:
    """`quiet`: this process has not known it otherwise."""
    return Alert(
        "journal_writable_again",
        "info",
        "writes can be made durable again",
        _VAULT,
        ends=("journal_unwritable",),
        quiet=quiet,
    )


def saves_skipped(company: Company, count: int) -> Alert:
    return Alert(
        "saves_skipped",
        "warning",
        f"{count} writes of {company} were skipped in the outage (CACHE_MODE=read-only)",
        {**_VAULT, "company_id": company},
        {"writes": count, "next_step": "Set CACHE_MODE=read-write, so that writes are kept in an outage."},
    )
