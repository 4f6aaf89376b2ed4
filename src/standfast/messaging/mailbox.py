"""`Mailbox`: this machine's messages: the file, what came in, what is to be sent; and how long they are kept.

Invariant: what somebody is still owed, or WhatsApp has not confirmed, is never forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from standfast.alert import Alert, AlertSink
from standfast.authstate.company import Company
from standfast.errors import StandfastError
from standfast.messaging.consumers import Consumers
from standfast.messaging.events import EventLog
from standfast.messaging.file import MessageFile
from standfast.messaging.outgoing import OutgoingTable
from standfast.messaging.spool import Spool
from standfast.messaging.taken import Taken
from standfast.sessions.events import Event, EventBus
from standfast.sessions.session import State as SessionState

log = structlog.get_logger(__name__)
DAY_S = 86_400.0
TRIM_INTERVAL_S = 600.0
TRIM_ROWS = 1_000
# Prompts are of use for seconds and only on a screen; messages are logged before they are published.
_LOGGED = frozenset({"receipt", "state", "alert"})


class Mailbox:
    """`open()`, then `run()` beside everything; what sessions know as `Messages`. `taken`: what other nodes took."""

    def __init__(
        self,
        directory: Path,
        key: bytes,
        alerts: AlertSink,
        kept_days: float = 7.0,
        clock: Callable[[], float] = time.time,
        taken: Taken | None = None,
    ) -> None:
        self._alerts = alerts
        self._taken = taken
        self._kept_s = kept_days * DAY_S
        self._clock = clock
        self._file = MessageFile(directory, key, self._damaged)
        self.log = EventLog(self._file, clock)
        self.outgoing = OutgoingTable(self._file, clock)
        self.consumers = Consumers(self._file, self.log, clock)
        self.spool = Spool(directory / "spool", clock)
        self._notes: set[asyncio.Task[None]] = set()

    @property
    def file(self) -> MessageFile:
        return self._file

    def open(self) -> None:
        """Raises `JournalUnwritable` where the disk does not take messages."""
        self._file.open()
        self.spool.open()
        self.log.load()

    async def close(self) -> None:
        """Write down what is under way, and give the file back."""
        await asyncio.gather(*self._notes, return_exceptions=True)
        if self._taken is not None:
            await self._taken.close()
        await self._file.close()

    async def written(self) -> None:
        """Return once everything that was noted so far is on the disk. `JournalUnwritable`."""
        await self._file.write(lambda _connection: None)

    def record(self, bus: EventBus) -> Callable[[], None]:
        """Log what is published of sessions and of messages that were sent; the returned call ends that."""
        return bus.subscribe(self._note)

    async def take(
        self, company: Company, message: dict[str, Any], attachment: bytes | None = None
    ) -> int | None:
        """See `standfast.sessions.hearing.Messages`."""
        if self._taken is None:
            return await self.log.take(company, message, attachment)
        name = message["chat"], message["id"]
        if await self._taken.has(company, *name):
            return None
        number = await self.log.take(company, message, attachment)
        if number is not None:
            self._taken.add(company, *name)
        return number

    def knows(self, company: Company, chat: str, message_id: str) -> bool:
        """See `standfast.sessions.hearing.Messages`."""
        return self.log.knows(company, chat, message_id)

    def sent_content(self, company: Company, message_id: str) -> bytes | None:
        """See `standfast.sessions.hearing.Messages`."""
        return self.outgoing.content(company, message_id)

    async def run(self) -> None:
        """Forget what is older than it has to be kept; until cancelled."""
        while True:
            try:
                await self.trim()
            except StandfastError as error:
                log.warning("old messages were not removed", error=error.code, reason=error.message)
            await asyncio.sleep(TRIM_INTERVAL_S)

    async def trim(self) -> int:
        """Forget what is older than it has to be kept, and needed by nobody; how many rows."""
        await self.consumers.tidy()
        before, removed = self._clock() - self._kept_s, 0
        while rows := await self.log.trim(before, TRIM_ROWS) + await self.outgoing.trim(before, TRIM_ROWS):
            removed += rows
            await asyncio.sleep(0.05)  # others write in between
        return removed

    def _note(self, event: Event) -> None:
        if event.kind == "state" and event.data.get("state") == SessionState.OPEN and self._taken is not None:
            self._taken.reopened(Company(event.company))
        if event.kind in _LOGGED:
            chat = event.data.get("chat") if event.kind == "receipt" else None
            task = asyncio.get_running_loop().create_task(self._write(event, chat))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _write(self, event: Event, chat: str | None) -> None:
        try:
            await self.log.add(event.company, event.kind, event.data, chat)
        except StandfastError as error:
            log.warning("an event was not written down", kind=event.kind, error=error.code)

    def _damaged(self, where: Path, why: str) -> None:
        self._alerts.take(
            Alert(
                "messages_damaged",
                "critical",
                f"the messages' file could not be read ({why}); it was moved to {where} and a new one was begun. "
                "Messages that waited to be sent or to be handed over are in the old one",
                {"component": "messaging"},
                {"next_step": "Check the disk; keep the old file for support."},
            )
        )
