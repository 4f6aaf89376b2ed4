"""`EventStream`: events as server-sent events, from a place in the log on, until the client or the service goes.

Invariant: nothing is kept for a client that does not read: it is cut off, and goes on from its last number. An event is
sent once, in order of its number.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from standfast.api.answers import encode
from standfast.errors import StandfastError
from standfast.messaging.events import EventLog
from standfast.messaging.paging import Page, read_page

HEARTBEAT_S = 15.0
SEND_TIMEOUT_S = 10.0
_HEARTBEAT = b": still here\n\n"
_OPENING = b"retry: 2000\n\n"


class EventStream(Response):
    """`may_go_on` is asked between events and raises where the token was revoked meanwhile; `among` holds the streams
    that are open."""

    media_type = "text/event-stream"

    def __init__(
        self,
        log: EventLog,
        after: int,
        *,
        companies: Collection[str],
        kinds: Collection[str],
        closing: asyncio.Event,
        may_go_on: Callable[[], object],
        among: set[object],
    ) -> None:
        super().__init__(None, 200, {"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._log = log
        self._after = after
        self._companies = companies
        self._kinds = kinds
        self._closing = closing
        self._may_go_on = may_go_on
        self._among = among

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = [asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._closing.wait())]
        self._among.add(self)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _within(send(_chunk(_OPENING)))
            await self._serve(send, leaving)
            await _within(send({"type": "http.response.body", "body": b"", "more_body": False}))
        except TimeoutError:
            _abort(scope)
        except StandfastError:
            _abort(scope)  # its token is worth nothing any more
        finally:
            self._among.discard(self)
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)

    async def _serve(self, send: Send, leaving: Sequence[asyncio.Future[Any]]) -> None:
        while True:
            reading = asyncio.ensure_future(
                read_page(
                    self._log,
                    self._after,
                    companies=self._companies,
                    kinds=self._kinds,
                    wait_s=HEARTBEAT_S,
                )
            )
            try:
                await asyncio.wait({reading, *leaving}, return_when=asyncio.FIRST_COMPLETED)
                if any(task.done() for task in leaving):
                    return
                page = reading.result()
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({reading})
            self._may_go_on()
            await _within(send(_chunk(_written(page) or _HEARTBEAT)))
            self._after = page.after


def _written(page: Page) -> bytes:
    return b"".join(
        b"id: %d\nevent: %b\ndata: %b\n\n" % (event.number, event.kind.encode(), encode(event))
        for event in page.events
    )


def _chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _within(sending: Any) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await sending


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort(scope: Scope) -> None:
    """An end in order would wait for the client to read what it does not read."""
    abort = scope.get("extensions", {}).get("standfast.abort")
    if abort is not None:
        abort()
