"""A company's whole auth state as of now: from the vault where this node holds it, else from PostgreSQL.

Invariant: what was acknowledged is in it, whether or not PostgreSQL has it yet.
"""

from __future__ import annotations

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.postgres.store import PostgresAuthStore, Snapshot
from standfast.vault.outage import State
from standfast.vault.storage.account import Record
from standfast.vault.vault import Vault


async def current_state(vault: Vault, store: PostgresAuthStore, company: Company) -> Snapshot | None:
    """None where the company is confirmed absent. With PostgreSQL away, what the replica has; where it has
    nothing, `DatabaseUnavailable`."""
    record = vault.replica.record(company)
    if record is not None and is_ours(record, away=vault.outage.state is State.OUTAGE):
        return snapshot_of(vault.replica.everything(record.number))
    return await store.snapshot(company)


def is_ours(record: Record, *, away: bool) -> bool:
    """Whether the replica is to be believed: it is held, has what PostgreSQL lacks, or is all that can be had."""
    whole = record.complete and record.has_creds
    return whole and (record.held or record.journal_batches > 0 or away)


def snapshot_of(state: Change) -> Snapshot | None:
    """The state that a whole `Change` leaves."""
    if state.creds is None:
        return None
    keys = {
        key_type: {key_id: value for key_id, value in entries.items() if value is not None}
        for key_type, entries in state.keys.items()
    }
    return Snapshot(state.creds, keys)
