"""A client's side of a durable consumer: events of the log, each acknowledged once it was dealt with.

Invariant: an event is acknowledged after its handling returned and never before; at most a page is unacknowledged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from standfast.service.link import Link
from standfast.service.streams import CALL_TIMEOUT_S, PAGE_WAIT_S, logged_event, patiently
from standfast.sessions.events import Event

UNACKNOWLEDGED = 100


async def consume(
    link: Link,
    name: str,
    handle: Callable[[Event], Awaitable[None]],
    *,
    companies: Sequence[str] = (),
    kinds: Sequence[str] = (),
) -> None:
    """Await `handle` for each event behind the last one that `name` has acknowledged, in order, until it raises or the
    service is gone for more than a minute. `Conflict` where another program goes on as `name`."""
    after = await _place(link, "consumers.open", {"name": name})
    while True:
        params = {
            "after": after,
            "companies": companies,
            "kinds": kinds,
            "limit": UNACKNOWLEDGED,
            "wait_s": PAGE_WAIT_S,
        }
        page = msgspec.json.decode(await patiently(link, "events.list", params, CALL_TIMEOUT_S + PAGE_WAIT_S))
        for wire in page["events"]:
            await handle(logged_event(wire))
            after = await _place(link, "events.ack", {"consumer": name, "number": wire["number"]})
        if (
            page["after"] > after
        ):  # nothing in between concerns this consumer, and nothing need be kept for it
            after = await _place(link, "events.ack", {"consumer": name, "number": page["after"]})


async def _place(link: Link, method: str, params: dict[str, object]) -> int:
    answer: dict[str, int] = msgspec.json.decode(await patiently(link, method, params, CALL_TIMEOUT_S))
    return answer["after"]
