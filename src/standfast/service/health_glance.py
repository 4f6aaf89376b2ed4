"""What a look into the vault's file from outside tells of its health.

Invariant: what only the process that has the vault open can know stays unknown.
"""

from __future__ import annotations

import time

from standfast.health.document import Finding, VaultSection
from standfast.settings import Settings
from standfast.vault.storage.glance import Glance


def vault_section(found: Glance, settings: Settings, *, is_held: bool) -> VaultSection:
    """`is_held`: a process holds the state directory, and what it makes of the vault is not known."""
    grace_s = None if settings.outage_grace == "unlimited" else settings.credentials_cache_ttl_ms / 1000
    since = found.journal_since
    return VaultSection(
        state="unknown" if is_held else "closed",
        since_s=0.0,
        outage_s=None,
        cause=None,
        next_step=None,
        confirmed_s=None,
        grace_s=grace_s,
        grace_left_s=None,
        durability=settings.durability,
        journal_batches=found.journal_batches,
        journal_bytes=found.journal_bytes,
        lag_s=0.0 if since is None else max(0.0, time.time() - since),
        replica_companies=found.companies,
        replica_bytes=found.size_bytes,
        replica_age_s=None,
        writable=True,
        quarantine=found.quarantine,
        leases={"held": found.held} if found.held else {},
        stuck=[],
        outages=[],
        outages_24h=0,
        outage_s_24h=0.0,
    )


def vault_findings(found: Glance) -> list[Finding]:
    """What of it an operator should know."""
    findings = []
    if found.journal_batches:
        waiting = _counted(found.journal_batches, "batch", "batches")
        findings.append(
            Finding(
                code="journal_waiting",
                section="vault",
                level="warning",
                message=f"{waiting} safe in the vault that PostgreSQL may lack",
                recommendation="A running service carries them over by itself: standfast up",
            )
        )
    if found.quarantine:
        findings.append(
            Finding(
                code="quarantine_waiting",
                section="vault",
                level="warning",
                message=f"{_counted(found.quarantine, 'entry', 'entries')} in the quarantine, to be decided on",
                recommendation="standfast quarantine list",
            )
        )
    return findings


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
