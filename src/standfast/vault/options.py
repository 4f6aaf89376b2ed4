"""What the vault is told by its settings.

Invariant: every duration is in seconds.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class VaultOptions:
    """`unlimited_grace`: new connections open from the replica however long an outage lasts. `durability`: whether a
    write is acknowledged after the local fsync, or after PostgreSQL has it too. `read_only_cache`: saves are skipped
    in an outage. `remote_timeout_s`: how long a write waits for PostgreSQL before it is acknowledged without.
    `gather_s`: how long the replicator gathers batches before it sends them."""

    grace_s: float = 300.0
    unlimited_grace: bool = False
    durability: Literal["local", "remote"] = "local"
    read_only_cache: bool = False
    lease_ttl_s: float = 15.0
    node_name: str = platform.node() or "node"
    max_bytes: int = 4096 * 2**20
    opening_patience_s: float = 0.8
    acquire_timeout_s: float = 3.0
    suspect_timeout_s: float = 0.5
    mending_patience_s: float = 10.0
    remote_timeout_s: float = 3.0
    gather_s: float = 0.15
    release_timeout_s: float = 5.0
    close_timeout_s: float = 3.0
    sweep_interval_s: float = 60.0
    compact_bytes: int = 8 * 2**20
