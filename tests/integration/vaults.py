"""Vaults for tests: nodes with a directory of their own before one database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.vault.clock import Clock
from standfast.vault.opening import open_vault
from standfast.vault.options import VaultOptions
from standfast.vault.vault import Vault
from tests.support import until

ACME = Company("acme")
QUICK = VaultOptions(lease_ttl_s=5.0, gather_s=0.01, release_timeout_s=2.0, close_timeout_s=2.0, node_name="one")


@dataclass
class Alerts:
    """Keeps every alert."""

    taken: list[Alert] = field(default_factory=list)

    def take(self, alert: Alert) -> None:
        self.taken.append(alert)

    def named(self, name: str) -> list[Alert]:
        return [alert for alert in self.taken if alert.name == name]


@dataclass
class Node:
    vault: Vault
    alerts: Alerts
    database: Database

    async def in_state(self, state: str, timeout_s: float = 8.0) -> None:
        await until(lambda: self.vault.outage.state == state, timeout_s)


def short_deadlines(options: DatabaseOptions) -> DatabaseOptions:
    return replace(options, connect_timeout_s=1.0, checkout_timeout_s=1.0, statement_timeout_s=2.0)


@contextlib.asynccontextmanager
async def node(
    directory: Path,
    options: DatabaseOptions,
    vault_options: VaultOptions = QUICK,
    *,
    clock: Clock | None = None,
    **more: Any,
) -> AsyncIterator[Node]:
    """A node whose vault lies in `directory`."""
    alerts = Alerts()
    async with (
        Database(short_deadlines(options)) as database,
        open_vault(directory, database, vault_options, alerts=alerts, clock=clock, **more) as vault,
    ):
        yield Node(vault, alerts, database)
