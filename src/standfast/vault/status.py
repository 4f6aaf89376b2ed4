"""The vault's state as operators see it.

Invariant: it reads what is there and changes nothing; it asks PostgreSQL nothing.
"""

from __future__ import annotations

import time
from typing import Any

from standfast.errors import JournalUnwritable
from standfast.vault.holding import Holding
from standfast.vault.storage.replica import Record
from standfast.vault.vault import Vault


def status_of(vault: Vault) -> dict[str, Any]:
    """JSON-able; ages and lags in seconds. `companies` lists those that are open here or have a journal."""
    outage, grace, replica = vault.outage, vault.grace, vault.replica
    records = replica.companies()
    holdings = {holding.company: holding for holding in vault.holdings()}
    cause = outage.cause
    return {
        "node": {"id": replica.node, "name": vault.options.node_name},
        "state": outage.state.value,
        "since_s": round(outage.since_s(), 1),
        "outage_s": _rounded(outage.outage_s()),
        "detached": outage.detached is not None,
        "answered": outage.answered,
        "cause": cause and {"code": cause.code, "message": cause.message, "next_step": cause.next_step},
        "confirmed_s": _rounded(grace.node_age_s()),
        "grace_s": None if grace.is_unlimited else grace.limit_s,
        "durability": vault.options.durability,
        "cache_mode": "read-only" if vault.options.read_only_cache else "read-write",
        "journal": {
            "batches": sum(record.journal_batches for record in records),
            "bytes": sum(record.journal_bytes for record in records),
            "carried": vault.replicator.carried.batches,
        },
        "replica": {
            "bytes": replica.size_bytes(),
            "companies": len(records),
            "writable": _is_writable(vault),
        },
        "quarantine": len(replica.quarantined()),
        "companies": [
            _company(vault, record, holding)
            for record in records
            if (holding := holdings.get(record.company)) is not None or record.journal_batches
        ],
    }


def _company(vault: Vault, record: Record, holding: Holding | None) -> dict[str, Any]:
    return {
        "company": record.company,
        "open": holding is not None and holding.is_open,
        "lease": _lease(holding),
        "epoch": record.epoch,
        "replica_age_s": _rounded(vault.grace.age_s(record)),
        "journal_batches": record.journal_batches,
        "journal_bytes": record.journal_bytes,
        "lag_s": round(max(holding.lag_s, holding.unsent_for_s()), 3) if holding else None,
        "unsent_s": _unsent_s(record, holding),
        "stuck": holding.stuck.message if holding and holding.stuck else None,
        "skipped": holding.skipped if holding else 0,
    }


def _unsent_s(record: Record, holding: Holding | None) -> float:
    """The age of the oldest write that PostgreSQL does not have; a journal that a former process left counts too."""
    waiting_s = holding.unsent_for_s() if holding is not None else 0.0
    if not waiting_s and record.journal_batches and record.journal_since is not None:
        waiting_s = max(0.0, time.time() - record.journal_since)
    return round(waiting_s, 3)


def _lease(holding: Holding | None) -> str:
    if holding is None:
        return "none"
    if holding.fenced is not None:
        return "fenced"
    return "held" if holding.claimed else "unclaimed"


def _is_writable(vault: Vault) -> bool:
    try:
        vault.check_writable()
    except JournalUnwritable:
        return False
    return True


def _rounded(age_s: float | None) -> float | None:
    return None if age_s is None or age_s == float("inf") else round(age_s, 1)
