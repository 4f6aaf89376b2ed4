"""`Outbox`: brings accepted messages to WhatsApp: once each, in order for their chat, over restarts and reconnections.

A message has its id from its acceptance on. It counts as sent once WhatsApp's server has confirmed it; one that left
over a connection that fell before that is sent again under the same id, which receivers show once. Invariant: to one
chat nothing is handed over while an earlier message may still have to be.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from standfast.authstate.company import Company, company_id
from standfast.errors import (
    Conflict,
    JournalUnwritable,
    SendFailed,
    ServiceUnavailable,
    SessionNotOpen,
    StandfastError,
    UsageError,
)
from standfast.health import tracing
from standfast.messaging.content import same
from standfast.messaging.lines import Item, Lane, Line
from standfast.messaging.outgoing import STATES, Body, Outgoing, OutgoingTable, State
from standfast.messaging.rate import WINDOW_S, NewChatLimit, NewChats
from standfast.sessions.events import Event, EventBus
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import State as SessionState

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """Times in seconds. `at_once`: how many of a company's chats are sent to side by side."""

    lifetime_s: float = 86_400.0
    confirmation_s: float = 30.0
    flush_s: float = 2.0
    retry_base_s: float = 1.0
    retry_cap_s: float = 60.0
    attempts: int = 10
    at_once: int = 8
    limit: NewChatLimit = field(default_factory=NewChatLimit)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the host is asked to send: Baileys' content, the message it replies to, and how long that may take."""

    content: Mapping[str, Any]
    quoted: Mapping[str, Any] | None = None
    timeout_s: float | None = None


Prepare = Callable[[Outgoing], Awaitable[Prepared]]


class Outbox:
    """`start()` goes on with what was not confirmed; `accept` is durable when it returns."""

    def __init__(
        self,
        table: OutgoingTable,
        pool: SessionPool,
        bus: EventBus,
        prepare: Prepare,
        options: OutboxOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._pool = pool
        self._bus = bus
        self._prepare = prepare
        self._options = options or OutboxOptions()
        self._clock = clock
        self._lines: dict[Company, Line] = {}
        self._waiters: dict[tuple[str, str], list[asyncio.Future[tuple[State, dict[str, Any] | None]]]] = {}
        self._unsubscribe: Callable[[], None] = lambda: None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self._confirmed = asyncio.Event()

    async def start(self) -> None:
        """Listen to sessions, and queue what an earlier run has not brought to WhatsApp."""
        self._unsubscribe = self._bus.subscribe(self.take)
        for number, company, message_id, chat, expires_at, _ in self._table.unfinished():
            self._enqueue(self._line(Company(company)), Item(number, message_id, chat, expires_at))
        self._watch = asyncio.create_task(self._watch_confirmations(), name="outbox")

    async def stop(self) -> None:
        """Begin no hand-over any more, and give what is under way, and its confirmation, `flush_s`; what waits stays on
        disk."""
        self._stopping = True
        lanes = [lane for line in self._lines.values() for lane in line.lanes.values() if lane.task]
        tasks = [lane.task for lane in lanes if lane.task and lane.under_way is None]
        moving = {lane.task for lane in lanes if lane.task and lane.under_way is not None}
        await _ended([*tasks, *([self._watch] if self._watch else [])])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.flush_s):
                await asyncio.gather(*moving, return_exceptions=True)
                while self._awaits_confirmation():
                    self._confirmed.clear()
                    await self._confirmed.wait()
        await _ended(moving)
        self._unsubscribe()

    def _awaits_confirmation(self) -> bool:
        """Whether something has left just now: WhatsApp's server answers within a moment, or not at all."""
        since = asyncio.get_running_loop().time() - self._options.flush_s
        lines = [line for line in self._lines.values() if line.is_open.is_set()]
        left = (item.left_at for line in lines for item in line.unconfirmed.values())
        return any(at is not None and at > since for at in left)

    async def accept(
        self,
        company: str,
        jid: str,
        content: dict[str, Any],
        *,
        idempotency_key: str | None = None,
        lifetime_s: float | None = None,
    ) -> Outgoing:
        """Keep a message to be sent; the same one where the key was used before. Raises `Conflict` where that was
        another message, `SessionNotOpen` where the session does not come back by itself, `JournalUnwritable`."""
        known = self.repeated(company, jid, content, idempotency_key)
        if known is not None:
            return known
        session = self._pool.awaited(company)
        message_id = "3EB0" + secrets.token_hex(9).upper()  # the form that Baileys gives to ids of its own
        expires_at = self._clock() + (self._options.lifetime_s if lifetime_s is None else lifetime_s)
        body = Body(jid, content)
        added = await self._table.add(session.company, message_id, body, idempotency_key, expires_at)
        if added is None:  # the same key, in the same moment
            known = self.repeated(company, jid, content, idempotency_key)
            assert known is not None
            return known
        chat = self._table.tag(session.company, jid)
        item = Item(added.number, message_id, chat, expires_at, trace=tracing.here())
        self._enqueue(self._line(session.company), item)
        return added

    def repeated(self, company: str, jid: str, content: dict[str, Any], key: str | None) -> Outgoing | None:
        """The message that was accepted under this key; None where none was, `Conflict` where it was another one."""
        known = self._table.by_key(company_id(company), key) if key is not None else None
        if known is not None and not (known.jid == jid and same(known.content, content)):
            raise Conflict(
                "this idempotency key was used for another message",
                next_step="Use a new key for a new message.",
                message_id=known.message_id,
            )
        return known

    def get(self, company: str, message_id: str) -> Outgoing | None:
        """The message as it stands."""
        return self._table.get(company, message_id)

    async def settled(self, message: Outgoing, timeout_s: float) -> Outgoing:
        """The message once WhatsApp has confirmed it or it has failed, or as it stands after `timeout_s`."""
        key = (message.company, message.message_id)
        future: asyncio.Future[tuple[State, dict[str, Any] | None]] = (
            asyncio.get_running_loop().create_future()
        )
        self._waiters.setdefault(key, []).append(future)
        try:
            found = self._table.get(*key) or message
            if found.state >= State.SENT:
                return found
            async with asyncio.timeout(timeout_s):
                state, error = await future
            return msgspec.structs.replace(found, state=state, error=error, changed_at=self._clock())
        except TimeoutError:
            return self._table.get(*key) or message
        finally:
            waiting = self._waiters.get(key, [])
            waiting.remove(future)
            if not waiting:
                self._waiters.pop(key, None)

    def cancel(self, company: str, message_id: str) -> bool:
        """Do not send a message that still waits; False where it is on its way, or was sent."""
        line = self._lines.get(company_id(company))
        for chat, lane in line.lanes.items() if line else ():
            for item in lane.items:
                if item.message_id == message_id and item is not lane.under_way and item.left_at is None:
                    assert line is not None
                    self._take_out(line, chat, lane, item)
                    self._fail(company, item, UsageError("cancelled before it was sent"))
                    return True
        return False

    def _take_out(self, line: Line, chat: bytes, lane: Lane, item: Item) -> None:
        """Take a message out of its lane, which begins anew where it waited for this one."""
        waits_for_it = lane.items[0] is item
        lane.items.remove(item)
        if waits_for_it and lane.task is not None:
            lane.task.cancel()
            lane.task = None
            del line.lanes[chat]
            if lane.items:
                line.lanes[chat] = lane
                self._go(line, chat, lane)

    def waiting(self) -> dict[str, int]:
        """How many messages are not confirmed yet, by company."""
        return {company: line.waiting for company, line in self._lines.items()}

    def take(self, event: Event) -> None:
        """Hear what becomes of sessions and messages."""
        if event.kind == "state":
            self._session_changed(event.company, event.data.get("state") == SessionState.OPEN)
        elif event.kind == "receipt":
            self._receipt(event.company, event.data)

    def _session_changed(self, company: str, is_open: bool) -> None:
        line = self._line(Company(company))
        if not is_open:
            line.is_open.clear()
        elif not line.is_open.is_set():
            # Before anything new is handed over: what left over the former connection may have been lost with it.
            self._again(line, list(line.unconfirmed.values()))
            line.is_open.set()

    def _receipt(self, company: str, data: dict[str, Any]) -> None:
        state = STATES.get(str(data.get("status")))
        self._confirmed.set()
        line = self._lines.get(Company(company))
        if state is None or state < State.SENT:
            return
        message_id = str(data["message_id"])
        if line is not None:
            line.confirmed(message_id)
        error = data.get("error")
        if state is State.FAILED and error is None:
            error = SendFailed("WhatsApp refused the message").as_wire()
        self._table.advance(company, message_id, state, error)
        self._settle(company, message_id, state, error)

    def _line(self, company: Company) -> Line:
        line = self._lines.get(company)
        if line is None:
            options = self._options
            begun = self._table.begun_since(company, self._clock() - WINDOW_S)
            new_chats = NewChats(options.limit.of(company), begun, self._clock)
            line = self._lines[company] = Line(company, asyncio.Semaphore(options.at_once), new_chats)
            session = self._pool.session(company)
            if session is not None and session.state is SessionState.OPEN:
                line.is_open.set()
        return line

    def _enqueue(self, line: Line, item: Item) -> None:
        lane = line.lanes.setdefault(item.chat, Lane())
        lane.items.append(item)
        self._go(line, item.chat, lane)

    def _again(self, line: Line, items: Iterable[Item]) -> None:
        for chat in line.put_first(items):
            self._go(line, chat, line.lanes[chat])

    def _go(self, line: Line, chat: bytes, lane: Lane) -> None:
        if lane.task is None:
            lane.task = asyncio.get_running_loop().create_task(self._serve(line, chat, lane))

    async def _serve(self, line: Line, chat: bytes, lane: Lane) -> None:
        while lane.items and not self._stopping:
            item = lane.items[0]
            try:
                delay_s = await self._attempt(line, lane, item)
            except StandfastError as error:  # the file could not be read just now
                log.warning("a chat waits", company=line.company, error=error.code, reason=error.message)
                delay_s = self._options.retry_base_s
            if delay_s > 0:
                await asyncio.sleep(delay_s)
        lane.task = None
        if line.lanes.get(chat) is lane:
            del line.lanes[chat]

    async def _attempt(self, line: Line, lane: Lane, item: Item) -> float:
        """Try to hand over the lane's first message; in how many seconds to look at the lane again."""
        try:
            async with asyncio.timeout(max(0.0, item.expires_at - self._clock())):
                await self._may_go(line, item)
        except TimeoutError:
            lane.drop(item)
            self._fail(line.company, item, SendFailed("it could not be sent within its lifetime"))
            return 0.0
        if lane.items and lane.items[0] is not item:
            return 0.0  # cancelled, confirmed late, or others go first
        async with line.slots:
            lane.under_way = item
            try:
                with tracing.span(
                    "message.send", "producer", {"standfast.company": line.company}, item.trace
                ):
                    await self._hand_over(line, item)
            except Exception as error:  # noqa: BLE001 - one message must not end its chat's lane
                line.unconfirmed.pop(item.message_id, None)
                return self._failed(line, lane, item, _known(error))
            finally:
                lane.under_way = None
        lane.drop(item)
        return 0.0

    async def _may_go(self, line: Line, item: Item) -> None:
        await line.is_open.wait()
        if item.chat not in line.begun and not self._table.is_met(line.company, item.chat):
            await line.new_chats.begin()
            line.begun.add(item.chat)
            self._table.meet(line.company, item.chat)
            await line.is_open.wait()

    async def _hand_over(self, line: Line, item: Item) -> None:
        message = self._table.numbered(item.number)
        if message is None or message.state >= State.SENT:
            return
        prepared = await self._prepare(message)
        # Before it is handed over: the confirmation may come before the host's answer.
        line.unconfirmed[item.message_id] = item
        answer = await self._pool.send(
            line.company, message.jid, prepared.content, item.message_id, prepared.quoted, prepared.timeout_s
        )
        item.left_at = asyncio.get_running_loop().time()
        if not item.is_confirmed:  # the session may have been opened anew meanwhile
            line.unconfirmed[item.message_id] = item
        self._table.left(item.number, line.company, item.message_id, _content(answer))

    def _failed(self, line: Line, lane: Lane, item: Item, error: StandfastError) -> float:
        if isinstance(error, SessionNotOpen | ServiceUnavailable):
            return 0.2 if line.is_open.is_set() else 0.0
        if not isinstance(error, JournalUnwritable):
            item.attempts += 1
        self._table.tried(item.number, line.company, item.message_id, error.as_wire())
        if isinstance(error, UsageError) or item.attempts >= self._options.attempts:
            lane.drop(item)
            self._fail(line.company, item, error)
            return 0.0
        return min(self._options.retry_cap_s, self._options.retry_base_s * 2.0 ** max(0, item.attempts - 1))

    def _fail(self, company: str, item: Item, error: StandfastError) -> None:
        data = {
            "company": company,
            "kind": "receipt",
            "message_id": item.message_id,
            "chat": None,
            "status": "failed",
            "error": error.as_wire(),
        }
        self._bus.publish(Event(company, "receipt", data))

    def _settle(self, company: str, message_id: str, state: State, error: dict[str, Any] | None) -> None:
        for future in self._waiters.get((company, message_id), ()):
            if not future.done():
                future.set_result((state, error))

    async def _watch_confirmations(self) -> None:
        """What left and is not confirmed though its session stays open is sent again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(5.0, self._options.confirmation_s / 2))
            before = loop.time() - self._options.confirmation_s
            for line in self._lines.values():
                late = [
                    one
                    for one in line.unconfirmed.values()
                    if one.left_at is not None and one.left_at < before
                ]
                if late and line.is_open.is_set():
                    log.warning("messages were not confirmed in time", company=line.company, count=len(late))
                    self._again(line, late)


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _known(error: Exception) -> StandfastError:
    if isinstance(error, StandfastError):
        return error
    log.error("a message could not be handed over", exc_info=error)
    return SendFailed(f"it could not be handed over: {type(error).__name__}")


def _content(answer: Mapping[str, Any]) -> bytes | None:
    encoded = answer.get("content")
    return None if encoded is None else msgspec.convert(encoded, bytes)
