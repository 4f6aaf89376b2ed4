"""Metrics of what is kept: the vault, the keys in PostgreSQL, backups.

Invariant: pure: what is shown is what the document says.
"""

from __future__ import annotations

from standfast.health.document import BackupSection, KeySection, VaultSection
from standfast.health.metrics.families import Families
from standfast.health.thresholds import Thresholds
from standfast.vault.outage import State

DAY_S = 86_400
TYPES_SHOWN = 30
BACKUP_STATES = ("none", "ok", "old", "unreadable")
OTHER = "_other"
LEASES = ("held", "unclaimed", "fenced")


def add_outage(out: Families, vault: VaultSection | None) -> None:
    """Whether PostgreSQL is there, and how long it can be done without."""
    if vault is None:
        return
    states = (state.value for state in State)
    out.states("vault_state", "How the vault sees PostgreSQL.", "state", states, vault.state)
    out.gauge("vault_outage_seconds", "For how long the outage lasts; 0: there is none.", vault.outage_s or 0)
    out.gauge(
        "vault_grace_left_seconds",
        "How long new connections may still be opened from the replica; absent where that is unlimited.",
        vault.grace_left_s,
    )


def add_vault(out: Families, vault: VaultSection | None) -> None:
    if vault is None:
        return
    out.gauge("vault_grace_seconds", "The grace period; absent where it is unlimited.", vault.grace_s)
    out.gauge(
        "vault_confirmed_age_seconds",
        "Since PostgreSQL last confirmed this node's leases.",
        vault.confirmed_s,
    )
    out.gauge("vault_outages_24h", "Outages within the last 24 hours.", vault.outages_24h)
    out.gauge("vault_outage_24h_seconds", "Their sum.", vault.outage_s_24h)
    out.gauge("vault_journal_batches", "Batches that PostgreSQL does not have.", vault.journal_batches)
    out.gauge("vault_journal_bytes", "Their size.", vault.journal_bytes)
    out.gauge("vault_lag_seconds", "Age of the oldest write that PostgreSQL does not have.", vault.lag_s)
    out.gauge(
        "vault_replica_companies", "Companies of which the replica has a copy.", vault.replica_companies
    )
    out.gauge("vault_replica_bytes", "Size of the replica's file.", vault.replica_bytes)
    out.gauge("vault_replica_age_seconds", "Since the oldest copy in use was confirmed.", vault.replica_age_s)
    out.gauge("vault_writable", "Whether writes can be made durable on this machine.", vault.writable)
    out.gauge("vault_quarantine_entries", "Journals in quarantine, to be decided on.", vault.quarantine)
    leases = dict.fromkeys(LEASES, 0) | vault.leases
    out.counts("vault_leases", "Companies by their lease.", "lease", leases)
    out.gauge("vault_stuck_companies", "Companies whose writes PostgreSQL refuses.", len(vault.stuck))


def add_keys(out: Families, keys: KeySection | None, thresholds: Thresholds) -> None:
    if keys is None:
        return
    out.gauge("auth_records", "Companies with creds in PostgreSQL.", keys.auth_records)
    out.counts("keys", "Keys in PostgreSQL, by type.", "type", _bounded(keys.types))
    out.counts("keys_by_age", "Keys by the age of their last write.", "age", keys.ages)
    out.gauge("keys_expired", "Keys that count as expired.", keys.expired)
    out.gauge("keys_expired_warning_threshold", "STANDFAST_EXPIRED_KEYS_WARNING.", thresholds.expired_warning)
    out.gauge("keys_expired_error_threshold", "STANDFAST_EXPIRED_KEYS_ERROR.", thresholds.expired_error)
    out.gauge("keys_retention_seconds", "DB_CLEANUP_RETENTION_DAYS, in seconds.", keys.retention_days * DAY_S)
    by_company = [((one.company,), one.keys) for one in keys.companies]
    out.gauges("company_keys", "Keys of the ten companies that have the most.", ["company"], by_company)
    expired = [((one.company,), one.expired) for one in keys.companies]
    out.gauges("company_keys_expired", "Expired keys of these ten.", ["company"], expired)
    out.gauge("keys_table_bytes", "Size of the tables in PostgreSQL.", keys.table_bytes)
    out.gauge("keys_index_bytes", "Size of their indexes.", keys.index_bytes)
    out.gauge("keys_growth_daily", "How many keys a day brings; absent until known.", keys.keys_a_day)
    out.gauge("keys_growth_daily_bytes", "By how much a day makes the tables larger.", keys.bytes_a_day)
    out.gauge("keys_exact", "Whether the keys were counted; 0: estimated since.", keys.exact)
    out.gauge("keys_counted_timestamp_seconds", "When the keys were last counted.", keys.counted_at)


def add_backups(out: Families, backups: BackupSection | None, thresholds: Thresholds, now: float) -> None:
    if backups is None:
        return
    out.states("backup_state", "How backups stand.", "state", BACKUP_STATES, backups.state)
    out.gauge("backup_files", "Backups there are.", backups.count)
    out.gauge("backup_age_seconds", "Age of the newest backup.", backups.newest_age_s)
    out.gauge("backup_size_bytes", "Size of the newest backup.", backups.newest_bytes)
    out.gauge(
        "backup_max_age_seconds", "STANDFAST_BACKUP_MAX_AGE_H, in seconds.", thresholds.backup_max_age_s
    )
    proven_s = None if backups.proven_at is None else max(0.0, now - backups.proven_at)
    out.gauge("backup_proven_age_seconds", "Since a backup was last proven to restore.", proven_s)
    missing = {one.name: one.missing for one in backups.remotes}
    out.counts("backup_remote_missing", "Good backups that a remote lacks.", "remote", missing)
    changes = backups.change_log
    if changes is not None and changes.on:
        pending = "Age of the oldest change that is in no segment of the change log yet."
        out.gauge("changelog_pending_seconds", pending, changes.pending_s)
        out.counter("changelog_segments", "Segments of the change log written.", changes.segments)


def _bounded(types: dict[str, int]) -> dict[str, int]:
    """The types with the most keys; the table may hold names that somebody made up."""
    ranked = sorted(types.items(), key=lambda one: -one[1])
    shown = dict(ranked[:TYPES_SHOWN])
    if rest := sum(count for _, count in ranked[TYPES_SHOWN:]):
        shown[OTHER] = rest
    return shown
