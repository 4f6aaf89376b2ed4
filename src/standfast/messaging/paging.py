"""Reading the log a page at a time, by who keeps the place himself.

Invariant: who goes on from `after` of the page before misses no event, and is refused where the log never was there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from standfast.errors import ServiceUnavailable, UsageError
from standfast.messaging.events import PAGE, EventLog, LoggedEvent

WAIT_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Page:
    """Events, oldest first; the next page begins above `after`."""

    events: list[LoggedEvent]
    after: int


async def read_page(
    log: EventLog,
    after: int | None,
    *,
    companies: Collection[str] = (),
    kinds: Collection[str] = (),
    limit: int = PAGE,
    wait_s: float = 0.0,
) -> Page:
    """What stands above `after`; where that is nothing, what comes within `wait_s`. Without `after`, an empty page at
    the log's end. Raises `UsageError` where the log does not reach to `after`: it is another log; `ServiceUnavailable`
    in place of a wait where the service is about to end."""
    if after is None:
        return Page([], log.last)
    if after > log.last:
        raise UsageError(
            f"the log of this service ends at {log.last}: it has no event {after}",
            next_step="Begin again from 0, or from the log's end; its file was made anew, or it is another service.",
            last=log.last,
        )
    grown = asyncio.Event()
    unwake = log.wake(grown.set)
    try:
        async with asyncio.timeout(min(wait_s, WAIT_LIMIT_S)):
            while True:
                page = _page(log, after, companies, kinds, limit)
                if page.events or wait_s <= 0:
                    return page
                if log.is_ending:
                    raise ServiceUnavailable("the service is ending", next_step="Ask again once it runs.")
                after = page.after
                await grown.wait()
                grown.clear()
    except TimeoutError:
        return _page(log, after, companies, kinds, limit)
    finally:
        unwake()


def _page(log: EventLog, after: int, companies: Collection[str], kinds: Collection[str], limit: int) -> Page:
    last = log.last  # before reading: what is added meanwhile is in the next page at the latest
    events = log.after(after, companies=companies, kinds=kinds, limit=min(limit, PAGE))
    return Page(events, events[-1].number if events else max(after, last))
