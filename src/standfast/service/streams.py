"""Iterations over events: live ones, which the service tells as they happen, and the log's, which are asked for.

Invariant: no event is passed over in silence: a stream that cannot give the next one raises.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

import msgspec

from standfast.errors import ServiceUnavailable
from standfast.service.link import Link
from standfast.sessions.events import Event, Message

EVENTS_KEPT = 10_000
CALL_TIMEOUT_S = 30.0
PAGE_WAIT_S = 20.0
RESUME_PATIENCE_S = 60.0
RESUME_INTERVAL_S = 0.25


class EventStream(AsyncIterator[Event]):
    """Iterate it, or enter it first: `async with` returns once nothing that happens from then on can be missed."""

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @abstractmethod
    async def begin(self) -> None:
        """Begin, if that was not done."""

    async def aclose(self) -> None:
        """End it, if that was not done."""


class LiveEvents(EventStream):
    """What happens from now on, prompts of pairings among it; ends with the connection."""

    def __init__(self, link: Link, wanted: Callable[[Event], bool]) -> None:
        self._link = link
        self._wanted = wanted
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._begun = False

    async def begin(self) -> None:
        if not self._begun:
            self._begun = True
            await self._link.listen(self, CALL_TIMEOUT_S)

    async def aclose(self) -> None:
        self._link.unlisten(self)

    async def __anext__(self) -> Event:
        await self.begin()
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)  # whoever asks again is told the same
            self._link.unlisten(self)
            raise ServiceUnavailable(
                "the stream of events ended: the service went away or this consumer fell behind"
            )
        return event

    def notified(self, method: str, params: msgspec.Raw) -> None:
        """See `link.Listener`."""
        data: dict[str, Any] = msgspec.json.decode(params)
        kind = "state" if method == "session.state" else str(data.get("kind"))
        event = Event(str(data.get("company")), kind, data, data.get("number"))
        if self._wanted(event):
            self._queue.put_nowait(event)
            if self._queue.qsize() >= EVENTS_KEPT:
                self.lost()

    def lost(self) -> None:
        """See `link.Listener`."""
        self._link.unlisten(self)
        self._queue.put_nowait(None)


class LoggedEvents(EventStream):
    """Events of the service's log above `number`, oldest first, then as they come; `number` grows with each that was
    handed out. Outlives a restart of the service of up to a minute."""

    def __init__(self, link: Link, number: int, companies: Sequence[str], kinds: Sequence[str]) -> None:
        self._link = link
        self.number = number
        self._companies = companies
        self._kinds = kinds
        self._page: deque[Event] = deque()
        self._after = number

    async def begin(self) -> None:
        """Nothing to do: the log keeps what happens meanwhile."""

    async def __anext__(self) -> Event:
        while not self._page:
            await self._read()
        event = self._page.popleft()
        assert event.number is not None
        self.number = event.number
        return event

    async def _read(self) -> None:
        params = {
            "after": self._after,
            "companies": self._companies,
            "kinds": self._kinds,
            "wait_s": PAGE_WAIT_S,
        }
        raw = await patiently(self._link, "events.list", params, CALL_TIMEOUT_S + PAGE_WAIT_S)
        answer = msgspec.json.decode(raw)
        self._page.extend(logged_event(wire) for wire in answer["events"])
        self._after = answer["after"]


async def patiently(link: Link, method: str, params: Mapping[str, Any], timeout_s: float) -> msgspec.Raw:
    """The answer to what may be asked twice, also where the service restarts meanwhile and is back within a minute."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RESUME_PATIENCE_S
    while True:
        try:
            return await link.request(method, params, timeout_s)
        except ServiceUnavailable:
            if link.is_closed or loop.time() > deadline:
                raise
        await asyncio.sleep(RESUME_INTERVAL_S)


def message_of(event: Event) -> Message:
    """The message that an event of kind `message` tells of."""
    message = msgspec.convert(event.data["message"], Message)
    message.company, message.number, message.at = event.company, event.number, event.at
    return message


def logged_event(wire: dict[str, Any]) -> Event:
    """In the log a message stands by itself; a live event carries it."""
    data = wire["data"]
    if wire["kind"] == "message":
        data = {
            "company": wire["company"],
            "kind": "message",
            "number": wire["number"],
            "message": data,
        }
    return Event(wire["company"], wire["kind"], data, wire["number"], wire["at"])
