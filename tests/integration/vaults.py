"""Vaults for tests: nodes with a directory of their own before one database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from standfast.alert import Alert
from standfast.authstate.company import Company
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.vault.clock import Clock
from standfast.vault.opening import open_vault
from standfast.vault.options import VaultOptions
from standfast.vault.vault import Vault
from tests.support import made_up_creds, until

ACME = Company("acme")
QUICK = VaultOptions(
    lease_ttl_s=5.0, gather_s=0.01, release_timeout_s=2.0, close_timeout_s=2.0, node_name="one"
)


@dataclass
class Alerts:
    """Keeps every alert; those that may have nothing to end apart."""

    taken: list[Alert] = field(default_factory=list)
    quiet: list[Alert] = field(default_factory=list)

    def take(self, alert: Alert) -> None:
        (self.quiet if alert.quiet else self.taken).append(alert)

    def ended(self) -> set[tuple[str, str]]:
        """What was said to be over quietly: names and subjects."""
        return {(name, alert.subject) for alert in self.quiet for name in alert.ends}

    def names(self) -> list[str]:
        return [alert.name for alert in self.taken]

    def named(self, name: str) -> list[Alert]:
        return [alert for alert in self.taken if alert.name == name]


@dataclass
class Node:
    vault: Vault
    alerts: Alerts
    database: Database

    def cause(self) -> object:
        """Why PostgreSQL is away."""
        error = self.vault.outage.cause
        return error.facts.get("cause") if error else None

    async def in_state(self, state: str, timeout_s: float = 8.0) -> None:
        await until(lambda: self.vault.outage.state == state, timeout_s)


class Load:
    """A session of acme that writes and reads back all the time. `slowest_s` is what the slowest call took, `written`
    what it was told is durable."""

    def __init__(self, vault: Vault) -> None:
        self.slowest_s = 0.0
        self.calls = 0
        self.written: dict[str, bytes] = {}
        self._vault = vault
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        await self.goes_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True
        assert self._task is not None
        await self._task

    async def goes_on(self, calls: int = 20) -> None:
        """Wait until it was answered so many times more."""
        goal = self.calls + calls
        await until(lambda: self.calls >= goal or self._ended())

    def _ended(self) -> bool:
        assert self._task is not None
        return self._task.done() and self._task.result() is None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ending:
            key_id, value = f"{self.calls % 40}", b"%d" % self.calls
            began = loop.time()
            await self._vault.set_keys(ACME, {"session": {key_id: value}})
            self.written[key_id] = value
            assert await self._vault.get_keys(ACME, "session", [key_id]) == {key_id: value}
            self.slowest_s = max(self.slowest_s, loop.time() - began)
            self.calls += 1
            await asyncio.sleep(0.01)


async def pair(options: DatabaseOptions) -> None:
    """Acme with one session, `first`, as somebody else had stored it."""
    async with Database(options) as database:
        await PostgresAuthStore(database).install(ACME, made_up_creds(), {"session": {"first": b"0"}})


async def in_postgres(options: DatabaseOptions, key_type: str = "session") -> dict[str, bytes]:
    """Acme's keys of one type as PostgreSQL has them."""
    async with Database(options) as database:
        snapshot = await PostgresAuthStore(database).snapshot(ACME)
    return {} if snapshot is None else snapshot.keys.get(key_type, {})


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
