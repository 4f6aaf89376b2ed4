"""`DeliveryTable`: which events a webhook is still owed, and which were given up.

Invariant: a row goes only when its receiver has acknowledged the event or somebody removed the webhook; what is given
up stays listed as long as its event is kept.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from standfast.messaging.file import MessageFile
from standfast.messaging.webhooks_registry import Webhook

BATCH = 500
_PAUSE_S = 0.02
_COLUMNS = "number, company, lane, attempts, queued_at"
_AGAIN = (
    " on conflict (webhook, number) do update set attempts = 0, error = null, dead_at = null,"
    " queued_at = excluded.queued_at where dead_at is not null"
)


class Owed(NamedTuple):
    """One event that a webhook is owed; `lane` is its chat's keyed digest, empty for what belongs to no chat."""

    number: int
    company: str
    lane: bytes
    attempts: int
    queued_at: float


class Backlog(NamedTuple):
    """What a webhook waits for; `oldest_at` is the time of the oldest event of it, None where nothing waits."""

    waiting: int = 0
    dead: int = 0
    oldest_at: float | None = None


class DeliveryTable:
    """Reads and writes deliveries; decides nothing."""

    def __init__(self, file: MessageFile, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def page(self, webhook: str, after: int, limit: int) -> list[Owed]:
        """What it is owed above `after`, oldest first."""
        rows = self._file.read(
            f"select {_COLUMNS} from deliveries where webhook = ? and number > ? and dead_at is null"
            " order by number limit ?",
            (webhook, after, limit),
        )
        return [Owed(*row) for row in rows]

    def of_lane(self, webhook: str, company: str, lane: bytes, after: int, limit: int) -> list[Owed]:
        """The same of one chat."""
        rows = self._file.read(
            f"select {_COLUMNS} from deliveries where webhook = ? and company = ? and lane = ? and number > ?"
            " and dead_at is null order by number limit ?",
            (webhook, company, lane, after, limit),
        )
        return [Owed(*row) for row in rows]

    async def acknowledge(self, webhook: str, numbers: Collection[int]) -> None:
        """They were delivered."""
        rows = [(webhook, number) for number in numbers]
        await self._file.write(
            lambda connection: connection.executemany(
                "delete from deliveries where webhook = ? and number = ?", rows
            )
        )

    def failed(self, webhook: str, number: int, why: str) -> None:
        """One more attempt was in vain."""
        sealed = self._sealed(webhook, why)
        self._file.write_later(
            lambda connection: connection.execute(
                "update deliveries set attempts = attempts + 1, error = ? where webhook = ? and number = ?",
                (sealed, webhook, number),
            )
        )

    async def bury(self, webhook: str, number: int, why: str) -> None:
        """Give one up."""
        values = (self._clock(), self._sealed(webhook, why), webhook, number)
        await self._file.write(
            lambda connection: connection.execute(
                "update deliveries set attempts = attempts + 1, dead_at = ?, error = ?"
                " where webhook = ? and number = ?",
                values,
            )
        )

    async def bury_queued_before(self, webhook: str, before: float, why: str) -> int:
        """Give up all that has waited since before that time; how many."""
        sealed, now = self._sealed(webhook, why), self._clock()
        return await self._in_batches(
            "update deliveries set dead_at = ?, error = ? where (webhook, number) in (select webhook, number"
            " from deliveries where webhook = ? and dead_at is null and queued_at <= ? order by number limit ?)",
            (now, sealed, webhook, before),
        )

    def dead(self, webhook: str, after: int, limit: int) -> list[dict[str, Any]]:
        """What was given up above `after`, oldest first."""
        rows = self._file.read(
            "select d.number, d.company, e.kind, e.at, d.attempts, d.dead_at, d.error from deliveries d"
            " left join events e on e.number = d.number where d.webhook = ? and d.number > ? and dead_at is not null"
            " order by d.number limit ?",
            (webhook, after, limit),
        )
        names = ("number", "company", "kind", "at", "attempts", "dead_at", "error")
        found = [dict(zip(names, row, strict=True)) for row in rows]
        for one in found:
            one["error"] = self._opened(webhook, one["error"])
        return found

    def last_error(self, webhook: str) -> str | None:
        """Why the oldest of what waits was not taken."""
        rows = self._file.read(
            "select error from deliveries where webhook = ? and dead_at is null order by number limit 1",
            (webhook,),
        )
        return self._opened(webhook, rows[0][0]) if rows else None

    def backlogs(self) -> dict[str, Backlog]:
        """Of every webhook that is owed something, or was."""
        rows = self._file.read(
            "select webhook, count(*) filter (where dead_at is null), count(dead_at),"
            " min(number) filter (where dead_at is null) from deliveries group by webhook"
        )
        found = {}
        for webhook, waiting, dead, oldest in rows:
            at = self._file.read("select at from events where number = ?", (oldest,)) if oldest else []
            found[webhook] = Backlog(waiting, dead, at[0][0] if at else None)
        return found

    async def replay_dead(self, webhook: str) -> int:
        """Owe it anew what was given up and is kept still; how many."""
        return await self._in_batches(
            "update deliveries set attempts = 0, error = null, dead_at = null, queued_at = ?"
            " where (webhook, number) in (select webhook, number from deliveries where webhook = ?"
            " and dead_at is not null and number in (select number from events) order by number limit ?)",
            (self._clock(), webhook),
        )

    async def replay_numbers(self, webhook: Webhook, numbers: Collection[int]) -> int:
        """Owe it these events anew, delivered or not, as far as they are kept and concern it; how many."""
        replayed, wanted = 0, sorted(set(numbers))
        for start in range(0, len(wanted), BATCH):
            part = wanted[start : start + BATCH]
            replayed += (await self._owe(webhook, f"number in ({', '.join('?' * len(part))})", part))[0]
        return replayed

    async def replay_since(self, webhook: Webhook, since: float) -> int:
        """The same for all events from then on."""
        replayed, after = 0, 0
        newest = self._file.read("select coalesce(max(number), 0) from events")[0][0]
        while True:
            where = "at >= ? and number > ? and number <= ?"
            changed, last = await self._owe(webhook, where, [since, after, newest])
            if last is None:
                return replayed
            replayed, after = replayed + changed, last
            await asyncio.sleep(_PAUSE_S)

    async def forget(self, webhook: str) -> None:
        """Everything that it is owed, or was."""
        await self._in_batches(
            "delete from deliveries where (webhook, number) in"
            " (select webhook, number from deliveries where webhook = ? limit ?)",
            (webhook,),
        )

    async def tidy(self, before: float) -> int:
        """Give up what has waited since before that time, whoever for, and forget what was given up and whose event is
        not kept any more; how many rows."""
        buried = await self._in_batches(
            "update deliveries set dead_at = ? where (webhook, number) in (select webhook, number from deliveries"
            " where dead_at is null and queued_at <= ? limit ?)",
            (self._clock(), before),
        )
        return buried + await self._in_batches(
            "delete from deliveries where (webhook, number) in (select webhook, number from deliveries"
            " where dead_at is not null and number not in (select number from events) limit ?)",
            (),
        )

    async def _owe(self, webhook: Webhook, where: str, values: list[Any]) -> tuple[int, int | None]:
        """How many of a batch are owed anew, and the batch's last number; None where there was none."""
        filters, named = f" and kind in ({', '.join('?' * len(webhook.kinds))})", list(webhook.kinds)
        if webhook.companies:
            filters += f" and company in ({', '.join('?' * len(webhook.companies))})"
            named += list(webhook.companies)
        chosen = f"from events where {where}{filters} order by number limit {BATCH}"
        # "where true", or SQLite would take "on conflict" for the condition of a join.
        insert = (
            "insert into deliveries (webhook, number, company, lane, queued_at) select * from"
            f" (select ?, number, company, coalesce(chat, x''), ? {chosen}) where true{_AGAIN}"
        )

        def step(connection: sqlite3.Connection) -> tuple[int, int | None]:
            rows = connection.execute(f"select number {chosen}", (*values, *named)).fetchall()
            changed = connection.execute(insert, (webhook.name, self._clock(), *values, *named)).rowcount
            return changed, rows[-1][0] if rows else None

        return await self._file.write(step)

    async def _in_batches(self, statement: str, values: tuple[Any, ...]) -> int:
        changed = 0
        while True:
            rows = await self._file.write(
                lambda connection: connection.execute(statement, (*values, BATCH)).rowcount
            )
            changed += rows
            if rows < BATCH:
                return changed
            await asyncio.sleep(_PAUSE_S)  # others write in between

    def _sealed(self, webhook: str, why: str) -> bytes:
        return self._file.seals.seal(why, f"delivery {webhook}")

    def _opened(self, webhook: str, sealed: bytes | None) -> str | None:
        return None if sealed is None else self._file.seals.open(sealed, f"delivery {webhook}", str)
