"""`Outgoing`: a message that a company was asked to send, and `OutgoingTable`, where it is kept.

Invariant: an accepted message is on the disk; its state only ever advances.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from standfast.messaging.addresses import chat_name
from standfast.messaging.content import public
from standfast.messaging.file import MessageFile


class State(IntEnum):
    """How far a message has come. The wire has the names in small letters."""

    QUEUED = 0
    SENDING = 1  # it has left, and WhatsApp's server has not confirmed it yet
    SENT = 2
    DELIVERED = 3
    READ = 4
    PLAYED = 5
    FAILED = 9

    @property
    def word(self) -> str:
        return self.name.lower()

    def yields_to(self, later: State) -> bool:
        """Whether `later` is news: states only advance, and what WhatsApp has confirmed does not fail any more."""
        return self < later and (self < State.SENT or later < State.FAILED)


STATES = {state.word: state for state in State}


class Note(NamedTuple):
    """A state that is being written down, since `at`."""

    state: State
    error: dict[str, Any] | None
    at: float


class Body(msgspec.Struct):
    """What is sealed of a message: `content` is public content (`content.py`)."""

    jid: str
    content: dict[str, Any]


class Outgoing(msgspec.Struct, frozen=True):
    """One message; times in seconds since 1970. `error` is a wire error, why it failed or last could not be sent."""

    number: int
    company: str
    message_id: str
    jid: str
    content: dict[str, Any]
    state: State
    at: float
    changed_at: float
    expires_at: float
    attempts: int
    error: dict[str, Any] | None = None

    def with_note(self, note: Note | None) -> Outgoing:
        """As it stands with what is being written down."""
        if note is None or not self.state.yields_to(note.state):
            return self
        return msgspec.structs.replace(self, state=note.state, error=note.error, changed_at=note.at)

    def as_wire(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "company": self.company,
            "message_id": self.message_id,
            "jid": self.jid,
            "content": public(self.content),
            "state": self.state.word,
            "at": round(self.at, 3),
            "changed_at": round(self.changed_at, 3),
            "expires_at": round(self.expires_at, 3),
            "attempts": self.attempts,
            "error": self.error,
        }


_COLUMNS = (
    "number, company, message_id, body, state, at, changed_at, expires_at, attempts, error, chat, idempotency"
)
_INSERT = (
    "insert into outgoing (company, message_id, chat, idempotency, state, at, changed_at, expires_at, body)"
    " values (?, ?, ?, ?, 0, ?, ?, ?, ?) on conflict do nothing returning number"
)
_ADVANCE = (
    "update outgoing set state = ?, changed_at = ?, error = ? where company = ? and message_id = ? and state < ?"
    " and (state < 2 or ? < 9)"  # what WhatsApp has confirmed does not fail any more
)


class OutgoingTable:
    """Reads and writes messages; decides nothing. What was noted is read at once, written or not."""

    def __init__(self, file: MessageFile, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._noted: dict[tuple[str, str], Note] = {}

    def tag(self, company: str, jid: str) -> bytes:
        """The chat's name in the file."""
        return self._file.seals.tag(company, chat_name(jid))

    async def add(
        self, company: str, message_id: str, body: Body, key: str | None, expires_at: float
    ) -> Outgoing | None:
        """Keep a new message; None where its id or idempotency key is in use."""
        at, seals = self._clock(), self._file.seals
        idempotency = seals.tag(company, "idempotency", key) if key is not None else None
        sealed = seals.seal(body, _place(company, message_id))
        chat = self.tag(company, body.jid)
        values = (company, message_id, chat, idempotency, at, at, expires_at, sealed)

        def step(connection: sqlite3.Connection) -> int | None:
            row = connection.execute(_INSERT, values).fetchone()
            return None if row is None else int(row[0])

        number = await self._file.write(step)
        if number is None:
            return None
        return Outgoing(
            number, company, message_id, body.jid, body.content, State.QUEUED, at, at, expires_at, 0
        )

    def get(self, company: str, message_id: str) -> Outgoing | None:
        return self._one("company = ? and message_id = ?", (company, message_id))

    def by_key(self, company: str, key: str) -> Outgoing | None:
        """The message that was accepted under this idempotency key."""
        tag = self._file.seals.tag(company, "idempotency", key)
        return self._one("company = ? and idempotency = ?", (company, tag))

    def numbered(self, number: int) -> Outgoing | None:
        return self._one("number = ?", (number,))

    def unfinished(self) -> list[tuple[int, str, str, bytes, float, State]]:
        """(number, company, message_id, chat, expires_at, state) of all that is not confirmed, oldest first."""
        rows = self._file.read(
            "select number, company, message_id, chat, expires_at, state from outgoing where state < 2 order by number"
        )
        return [(*row[:5], State(row[5])) for row in rows]

    def unfinished_messages(self) -> Iterator[Outgoing]:
        """All that is not confirmed, oldest first."""
        rows = self._file.read(f"select {_COLUMNS} from outgoing where state < 2 order by number")
        return map(self._outgoing, rows)

    def newest(
        self,
        company: str,
        *,
        jid: str | None = None,
        state: State | None = None,
        before: int = 2**62,
        limit: int = 50,
    ) -> list[Outgoing]:
        """Messages below `before`, newest first."""
        where, values = "company = ? and number < ?", [company, before]
        if jid is not None:
            where += " and chat = ?"
            values.append(self.tag(company, jid))
        if state is not None:
            where += " and state = ?"
            values.append(int(state))
        rows = self._file.read(
            f"select {_COLUMNS} from outgoing where {where} order by number desc limit ?", (*values, limit)
        )
        return [self._outgoing(row) for row in rows]

    def advance(
        self, company: str, message_id: str, state: State, error: dict[str, Any] | None = None
    ) -> None:
        """Note a later state; an earlier one than is known changes nothing."""
        sealed = self._sealed_error(company, message_id, error)
        values = (int(state), self._clock(), sealed, company, message_id, int(state), int(state))
        self._note(
            (company, message_id), state, error, lambda connection: connection.execute(_ADVANCE, values)
        )

    def left(self, number: int, company: str, message_id: str, content: bytes | None) -> None:
        """It has left, as `content` (WhatsApp's protocol buffer)."""
        sealed = None
        if content is not None:
            sealed = self._file.seals.seal(content, _content_place(company, message_id))
        at = self._clock()

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(
                "update outgoing set state = max(state, 1), changed_at = ?, attempts = attempts + 1, error = null,"
                " content = coalesce(?, content) where number = ? and state < 9",
                (at, sealed, number),
            )

        self._note((company, message_id), State.SENDING, None, step)

    def tried(self, number: int, company: str, message_id: str, error: dict[str, Any]) -> None:
        """It could not be sent, for now."""
        sealed = self._sealed_error(company, message_id, error)
        self._file.write_later(
            lambda connection: connection.execute(
                "update outgoing set attempts = attempts + 1, error = ? where number = ? and state < 2",
                (sealed, number),
            )
        )

    def content(self, company: str, message_id: str) -> bytes | None:
        """What was sent, as WhatsApp's protocol buffer; None where it is not kept."""
        rows = self._file.read(
            "select content from outgoing where company = ? and message_id = ?", (company, message_id)
        )
        if not rows or rows[0][0] is None:
            return None
        return self._file.seals.open(rows[0][0], _content_place(company, message_id), bytes)

    def is_met(self, company: str, chat: bytes) -> bool:
        """Whether anything was exchanged with the chat before."""
        return bool(self._file.read("select 1 from chats where company = ? and chat = ?", (company, chat)))

    def meet(self, company: str, chat: bytes) -> None:
        """A message is about to be sent to a chat that was new."""
        values = (company, chat, self._clock())
        self._file.write_later(
            lambda connection: connection.execute(
                "insert into chats (company, chat, met_at, answered) values (?, ?, ?, 0) on conflict do nothing",
                values,
            )
        )

    def begun_since(self, company: str, since: float) -> list[float]:
        """When chats were begun by us since then, oldest first."""
        rows = self._file.read(
            "select met_at from chats where company = ? and met_at > ? and answered = 0 order by met_at",
            (company, since),
        )
        return [row[0] for row in rows]

    def counts(self) -> dict[str, int]:
        """How many messages wait, by company."""
        rows = self._file.read("select company, count(*) from outgoing where state < 2 group by company")
        return dict(rows)

    async def trim(self, older_than: float, limit: int = 1_000) -> int:
        """Forget what was accepted before that time and needs nothing any more; how many."""
        return await self._file.write(
            lambda connection: (
                connection.execute(
                    "delete from outgoing where number in"
                    " (select number from outgoing where at < ? and state >= 2 order by at limit ?)",
                    (older_than, limit),
                ).rowcount
            )
        )

    def _one(self, where: str, values: tuple[Any, ...]) -> Outgoing | None:
        rows = self._file.read(f"select {_COLUMNS} from outgoing where {where}", values)
        return self._outgoing(rows[0]) if rows else None

    def _outgoing(self, row: Any) -> Outgoing:
        number, company, message_id, body, state, at, changed_at, expires_at, attempts, error = row[:10]
        seals, place = self._file.seals, _place(company, message_id)
        opened = seals.open(body, place, Body)
        why = seals.open(error, f"{place} error", dict) if error is not None else None
        return Outgoing(
            number,
            company,
            message_id,
            opened.jid,
            opened.content,
            State(state),
            at,
            changed_at,
            expires_at,
            attempts,
            why,
        ).with_note(self._noted.get((company, message_id)))

    def _note(
        self,
        key: tuple[str, str],
        state: State,
        error: dict[str, Any] | None,
        step: Callable[[sqlite3.Connection], object],
    ) -> None:
        former = self._noted.get(key)
        note = (
            former
            if former is not None and not former.state.yields_to(state)
            else Note(state, error, self._clock())
        )
        self._noted[key] = note

        def written() -> None:
            if self._noted.get(key) is note:
                del self._noted[key]

        self._file.write_later(step, written)

    def _sealed_error(self, company: str, message_id: str, error: dict[str, Any] | None) -> bytes | None:
        if error is None:
            return None
        return self._file.seals.seal(error, f"{_place(company, message_id)} error")


def _place(company: str, message_id: str) -> str:
    return f"outgoing {company} {message_id}"


def _content_place(company: str, message_id: str) -> str:
    return f"content {company} {message_id}"
