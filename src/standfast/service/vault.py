"""What the settings say of the vault.

Invariant: every setting of the vault is read here and nowhere else.
"""

from __future__ import annotations

import platform
from pathlib import Path

from standfast.settings import Settings
from standfast.vault.options import VaultOptions
from standfast.vault.storage.cipher import own_key, read_key


def vault_options(settings: Settings) -> VaultOptions:
    """The vault's options in its own units."""
    return VaultOptions(
        grace_s=settings.credentials_cache_ttl_ms / 1000,
        unlimited_grace=settings.outage_grace == "unlimited",
        durability=settings.durability,
        read_only_cache=settings.cache_mode == "read-only",
        lease_ttl_s=settings.lease_ttl_ms / 1000,
        node_name=settings.node_name or platform.node() or "node",
        max_bytes=settings.vault_max_mb * 2**20,
    )


def vault_directory(settings: Settings) -> Path:
    """Where the vault's file lies."""
    return settings.state_dir / "vault"


def message_key(settings: Settings) -> bytes:
    """What messages are sealed with: the vault's key, whoever keeps it."""
    return vault_key(settings) or own_key(vault_directory(settings) / "vault.key")


def vault_key(settings: Settings) -> bytes | None:
    """The operator's key; None where the vault keeps its own."""
    return read_key(settings.vault_key_file) if settings.vault_key_file else None
