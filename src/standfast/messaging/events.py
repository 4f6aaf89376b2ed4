"""`EventLog`: what happened, in order, kept until whoever wants to know has been told.

Invariant: an event has its number once it is on the disk; numbers only grow, and who has seen all up to one has missed
none. A received message is in it once, however often it is delivered.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from standfast.authstate.company import Company
from standfast.messaging.addresses import chat_name
from standfast.messaging.file import PATIENCE_S, MessageFile

MESSAGE = "message"
PAGE = 200
_INSERT = (
    "insert into events (company, kind, chat, tag, name, at, body, attachment) values (?, ?, ?, ?, ?, ?, ?, ?)"
    " on conflict do nothing returning number"
)
_MEET = (
    "insert into chats (company, chat, met_at, answered, known_as) values (?, ?, ?, 1, ?)"
    " on conflict (company, chat) do update set answered = 1, known_as = coalesce(excluded.known_as, known_as)"
    " where answered = 0 or (known_as is null and excluded.known_as is not null)"
)


class LoggedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """`data` is as in docs/protocol.md, "Events"; `at` in seconds since 1970."""

    number: int
    company: str
    kind: str
    at: float
    data: dict[str, Any]


class _Marks(NamedTuple):
    """What an event is found by, the chats that it makes known, and what is needed to download its file."""

    chat: bytes | None = None
    tag: bytes | None = None
    name: bytes | None = None
    met: Mapping[bytes, bytes | None] = MappingProxyType({})
    attachment: bytes | None = None


Owed = Callable[[sqlite3.Connection, int, LoggedEvent, bytes | None], None]


class EventLog:
    """`owed` is called in the transaction of each event that was added, to write down who is to be told."""

    def __init__(self, file: MessageFile, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._owed: list[Owed] = []
        self._wakers: set[Callable[[], None]] = set()
        self.is_ending = False
        self._last = 0

    def load(self) -> None:
        """Read where the log ends; to be called once the file is open."""
        self._last = self._file.read(
            "select coalesce((select seq from sqlite_sequence where name = 'events'), 0)"
        )[0][0]

    @property
    def last(self) -> int:
        """The newest event's number; 0 where there is none."""
        return self._last

    def on_added(self, owed: Owed) -> None:
        """Have `owed` called inside the transaction of each event."""
        self._owed.append(owed)

    async def take(
        self, company: Company, message: dict[str, Any], attachment: bytes | None = None
    ) -> int | None:
        """Keep a received message; its number, None where it is kept already. `JournalUnwritable`."""
        chat = self._tag(company, chat_name(message["chat"], message.get("chat_alt")))
        tag = self._message_tag(company, message["chat"], message["id"])
        addressed = self._tag(company, message["chat"])
        met: dict[bytes, bytes | None] = {}
        if not message.get("from_me"):
            met = {chat: None} if addressed == chat else {chat: None, addressed: chat}
        name = self._name(company, message["id"])
        if attachment is not None:
            attachment = self._file.seals.seal(attachment, _attachment_place(company, message["id"]))
        return await self._add(company, MESSAGE, message, _Marks(chat, tag, name, met, attachment))

    async def add(self, company: str, kind: str, data: dict[str, Any], chat: str | None = None) -> int:
        """Keep another event; its number."""
        marks = _Marks(self._tag(company, chat) if chat else None)
        number = await self._add(company, kind, data, marks, PATIENCE_S)
        assert number is not None
        return number

    def knows(self, company: Company, chat: str, message_id: str) -> bool:
        """Whether the message was taken, and is kept still."""
        tag = self._message_tag(company, chat, message_id)
        return bool(self._file.read("select 1 from events where tag = ?", (tag,)))

    def message(self, company: str, chat: str, message_id: str) -> LoggedEvent | None:
        """The received message; None where it is not kept."""
        return self._one("tag = ?", (self._message_tag(company, chat, message_id),))

    def found(self, company: str, chat: str, message_id: str) -> LoggedEvent | None:
        """The message with this id in a chat that goes by either of its addresses; None where it is not kept."""
        rows = self._file.read(
            "select number, company, kind, at, body from events where name = ? limit 20",
            (self._name(company, message_id),),
        )
        wanted = chat_name(chat)
        for event in map(self._event, rows):
            if wanted in (chat_name(event.data["chat"]), chat_name(event.data.get("chat_alt") or "")):
                return event
        return None

    def attachment(self, event: LoggedEvent) -> bytes | None:
        """What is needed to download the message's file, as the host gave it; None where nothing is."""
        rows = self._file.read("select attachment from events where number = ?", (event.number,))
        if not rows or rows[0][0] is None:
            return None
        return self._file.seals.open(rows[0][0], _attachment_place(event.company, event.data["id"]), bytes)

    def event(self, number: int) -> LoggedEvent | None:
        return self._one("number = ?", (number,))

    def after(
        self,
        number: int,
        *,
        companies: Collection[str] = (),
        kinds: Collection[str] = (),
        limit: int = PAGE,
    ) -> list[LoggedEvent]:
        """Events above `number`, oldest first; of all companies and kinds where none is named."""
        where, values = _filter(companies, kinds)
        rows = self._file.read(
            f"select number, company, kind, at, body from events where number > ?{where} order by number limit ?",
            (number, *values, limit),
        )
        return [self._event(row) for row in rows]

    def newest(
        self, company: str, chat: str | None = None, *, before: int = 2**62, limit: int = 50
    ) -> list[LoggedEvent]:
        """Received messages below `before`, newest first, of one chat (an address) or of all."""
        where, values = ("", ()) if chat is None else (" and chat = ?", (self._chat(company, chat),))
        rows = self._file.read(
            "select number, company, kind, at, body from events where company = ? and number < ? and kind = 'message'"
            f"{where} order by number desc limit ?",
            (company, before, *values, limit),
        )
        return [self._event(row) for row in rows]

    def unread(self, company: str, chat: str, limit: int = PAGE) -> list[LoggedEvent]:
        """The newest messages of others in the chat since the latest that was marked as read, newest first."""
        tag = self._chat(company, chat)
        rows = self._file.read(
            "select number, company, kind, at, body from events where company = ? and chat = ? and kind = 'message'"
            " and number > coalesce((select read from chats where company = ? and chat = ?), 0)"
            " order by number desc limit ?",
            (company, tag, company, tag, limit),
        )
        return [event for event in map(self._event, rows) if not event.data.get("from_me")]

    async def mark_read(self, company: str, chat: str, number: int) -> None:
        """Note that the chat was read up to the event `number`."""
        values = (number, company, self._chat(company, chat))
        await self._file.write(
            lambda connection: connection.execute(
                "update chats set read = max(read, ?) where company = ? and chat = ?", values
            )
        )

    async def follow(
        self, after: int, *, companies: Collection[str] = (), kinds: Collection[str] = ()
    ) -> AsyncGenerator[LoggedEvent, None]:
        """Every event above `after`, as it comes, until the iteration is left."""
        grown = asyncio.Event()
        self._wakers.add(grown.set)
        try:
            while True:
                grown.clear()
                page = self.after(after, companies=companies, kinds=kinds)
                for event in page:
                    after = event.number
                    yield event
                if not page:
                    await grown.wait()
        finally:
            self._wakers.discard(grown.set)

    def end_waits(self) -> None:
        """The service is about to end: nobody is to wait for events any more."""
        self.is_ending = True
        for wake in tuple(self._wakers):
            wake()

    def wake(self, waker: Callable[[], None]) -> Callable[[], None]:
        """Call `waker` whenever the log has grown; the returned call ends that."""
        self._wakers.add(waker)
        return lambda: self._wakers.discard(waker)

    async def trim(self, older_than: float, limit: int = 1_000) -> int:
        """Forget events from before that time that nobody is owed any more; how many."""

        def step(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "delete from events where number in (select number from events e where at < ? and not exists"
                " (select 1 from webhooks w join deliveries d on d.webhook = w.name and d.number = e.number"
                " where d.dead_at is null) and number <="
                " (select coalesce(min(done), 9223372036854775807) from consumers) order by at limit ?)",
                (older_than, limit),
            ).rowcount

        return await self._file.write(step)

    async def _add(
        self,
        company: str,
        kind: str,
        data: dict[str, Any],
        marks: _Marks,
        patience_s: float = 0.0,
    ) -> int | None:
        at = self._clock()
        body = self._file.seals.seal(data, _place(company, kind))

        def step(connection: sqlite3.Connection) -> int | None:
            values = (company, kind, marks.chat, marks.tag, marks.name, at, body, marks.attachment)
            row = connection.execute(_INSERT, values).fetchone()
            if row is None:
                return None
            for one, known_as in marks.met.items():
                connection.execute(_MEET, (company, one, at, known_as))
            event = LoggedEvent(row[0], company, kind, at, data)
            for owed in self._owed:
                owed(connection, row[0], event, marks.chat)
            return int(row[0])

        number = await self._file.write(step, patience_s)
        if number is not None:
            self._last = max(self._last, number)
            for wake in tuple(self._wakers):
                wake()
        return number

    def _one(self, where: str, values: tuple[Any, ...]) -> LoggedEvent | None:
        rows = self._file.read(f"select number, company, kind, at, body from events where {where}", values)
        return self._event(rows[0]) if rows else None

    def _event(self, row: tuple[int, str, str, float, bytes]) -> LoggedEvent:
        number, company, kind, at, body = row
        data: dict[str, Any] = self._file.seals.open(body, _place(company, kind), dict)
        return LoggedEvent(number, company, kind, at, data)

    def _tag(self, company: str, chat: str) -> bytes:
        return self._file.seals.tag(company, chat_name(chat))

    def _chat(self, company: str, chat: str) -> bytes:
        """The tag that messages of the chat have: that of its phone number, where it was told with one."""
        tag = self._tag(company, chat)
        rows = self._file.read("select known_as from chats where company = ? and chat = ?", (company, tag))
        return tag if not rows or rows[0][0] is None else bytes(rows[0][0])

    def _name(self, company: str, message_id: str) -> bytes:
        return self._file.seals.tag(company, "message", message_id)

    def _message_tag(self, company: str, chat: str, message_id: str) -> bytes:
        return self._file.seals.tag(company, chat, message_id)


def _place(company: str, kind: str) -> str:
    return f"event {company} {kind}"


def _attachment_place(company: str, message_id: str) -> str:
    return f"attachment {company} {message_id}"


def _filter(companies: Collection[str], kinds: Collection[str]) -> tuple[str, list[str]]:
    where, values = "", []
    for column, names in (("company", companies), ("kind", kinds)):
        if names:
            where += f" and {column} in ({', '.join('?' * len(names))})"
            values += list(names)
    return where, values
