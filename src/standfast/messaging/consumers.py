"""`Consumers`: how far named programs have come with the log, so that each goes on behind what it has dealt with.

Invariant: a consumer's place only ever advances, and what stands above it is kept for it until it was away for 30 days.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

import structlog

from standfast.errors import UsageError
from standfast.messaging.events import EventLog
from standfast.messaging.file import MessageFile
from standfast.messaging.webhooks_registry import checked_name

log = structlog.get_logger(__name__)
KEPT_DAYS = 30
_PLACE = (
    "insert into consumers (name, done, changed_at) values (?, ?, ?) on conflict (name) do update"
    " set done = max(done, excluded.done), changed_at = excluded.changed_at returning done"
)


class Consumers:
    """Reads and writes places; who holds a name is the gateway's concern."""

    def __init__(self, file: MessageFile, events: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._events = events
        self._clock = clock

    async def open(self, name: str) -> int:
        """The number that it has dealt with; a new one begins at the log's end."""
        checked_name(name)
        known = self._file.read("select done from consumers where name = ?", (name,))
        return await self._place(name, known[0][0] if known else self._events.last)

    async def acknowledge(self, name: str, number: int) -> int:
        """It has dealt with everything up to `number`; how far it is now. `UsageError` where the log ends before."""
        checked_name(name)
        if number > self._events.last:
            raise UsageError(f"the log ends at {self._events.last}: there is no event {number}")
        return await self._place(name, number)

    def all(self) -> list[dict[str, Any]]:
        """Every consumer, how far it is, and how many numbers stand above that, whatever they are of."""
        rows = self._file.read("select name, done, changed_at from consumers order by name")
        return [
            {
                "name": name,
                "number": done,
                "last_seen": round(changed_at, 3),
                "behind": max(0, self._events.last - done),
            }
            for name, done, changed_at in rows
        ]

    async def remove(self, name: str) -> None:
        """Keep nothing for it any more. `UsageError` where there is none."""
        removed = await self._file.write(
            lambda connection: connection.execute("delete from consumers where name = ?", (name,)).rowcount
        )
        if not removed:
            raise UsageError(f"there is no consumer {name[:50]!r}", next_step="See: standfast consumers list")

    async def tidy(self) -> None:
        """Forget those that were away for too long: one of them would keep the log for ever."""
        before = self._clock() - KEPT_DAYS * 86_400.0

        def step(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "delete from consumers where changed_at < ? returning name", (before,)
            ).fetchall()
            return [row[0] for row in rows]

        for name in await self._file.write(step):
            log.warning("a consumer was away for too long and is forgotten", consumer=name, days=KEPT_DAYS)

    async def _place(self, name: str, number: int) -> int:
        values = (name, number, self._clock())

        def step(connection: sqlite3.Connection) -> int:
            return int(connection.execute(_PLACE, values).fetchone()[0])

        return await self._file.write(step)
