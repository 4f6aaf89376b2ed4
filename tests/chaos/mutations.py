"""Defects that the checker must find, each put into a worker's process by replacing one function there.

Invariant: each switches off one thing that the vault's promises stand on, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from standfast.postgres.pool import Statement
from standfast.postgres.replication import Replication
from standfast.vault.storage.account import Account
from standfast.vault.storage.replica import Replica
from tests.chaos import sabotage


def _replace(owner: type, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


def _acknowledge_before_the_commit() -> None:
    append = Replica.append
    under_way: set[asyncio.Future[None]] = set()

    def hurried(self: Replica, number: int, sequence: int, change: Any) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answered.set_result(None)

        async def later() -> None:
            await asyncio.sleep(0.03)
            await append(self, number, sequence, change)

        task = asyncio.ensure_future(later())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        return answered

    _replace(Replica, "append", hurried)


def _replay_out_of_order() -> None:
    batches = Replica.batches

    def shuffled(self: Replica, number: int, after: int, limit_bytes: int) -> Any:
        found = batches(self, number, after, limit_bytes)
        changes = [batch.change for batch in found][::-1]
        return [type(b)(b.first, b.last, change, b.at) for b, change in zip(found, changes, strict=True)]

    _replace(Replica, "batches", shuffled)
    _replace(Account, "fresh_since", lambda _self, _after, _limit_bytes: None)


def _split_batches() -> None:
    deliver = Replication.deliver

    async def split(self: Replication, deliveries: Any) -> Any:
        for delivery in deliveries:
            for key_type, entries in list(delivery.change.keys.items())[:1]:
                for key_id, value in entries.items():
                    if value is not None:
                        await self._database.fetch(_HALF, [delivery.company, key_type, key_id, value])
        return await deliver(self, deliveries)

    _replace(Replication, "deliver", split)


def _commit_late() -> None:
    """Every transaction stays open until the next one begins: whoever reads sees it, and a death undoes it."""
    execute = sabotage.Connection.execute

    def late(self: sabotage.Connection, sql: str, *args: Any) -> Any:
        if sql.lstrip().lower().startswith("begin") and self.in_transaction:
            execute(self, "commit")
        if sql.strip().lower() == "commit":
            return self.cursor()
        return execute(self, sql, *args)

    _replace(sabotage.Connection, "execute", late)


def _forget_quarantine() -> None:
    quarantine = Replica.quarantine

    async def forgetful(self: Replica, number: int, reason: str, fenced_by: int) -> int | None:
        kept = await quarantine(self, number, reason, fenced_by)
        if kept is not None:
            await self.discard(kept)
        return kept

    _replace(Replica, "quarantine", forgetful)


_HALF = Statement(
    "half",
    "insert into whatsapp_keys (company_id, key_type, key_id, value)"
    " values ($1, $2, $3, convert_from($4, 'UTF8')::jsonb)"
    " on conflict (company_id, key_type, key_id) do update set value = excluded.value",
)
MUTATIONS: dict[str, Callable[[], None]] = {
    "acknowledge-before-commit": _acknowledge_before_the_commit,
    "commit-late": _commit_late,
    "forget-quarantine": _forget_quarantine,
    "replay-out-of-order": _replay_out_of_order,
    "split-batches": _split_batches,
    # In PostgreSQL, by the controller: the guard is a function there.
    "epoch-guard-off": lambda: None,
}
