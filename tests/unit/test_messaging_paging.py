"""Reading the event log page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.errors import UsageError
from standfast.messaging.events import EventLog
from standfast.messaging.file import MessageFile
from standfast.messaging.paging import Page, read_page


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EventLog]:
    file = MessageFile(tmp_path, b"k" * 32, lambda _where, _why: None)
    file.open()
    made = EventLog(file)
    made.load()
    yield made
    await file.close()


def numbers(page: Page) -> list[int]:
    return [event.number for event in page.events]


async def test_pages_follow_each_other_without_a_gap(log: EventLog) -> None:
    """Each page begins where the one before ended, also where events of others stand between."""
    for n in range(10):
        await log.add("acme" if n % 3 else "bolt", "receipt", {"n": n})
    after, seen = 0, []
    while (page := await read_page(log, after, companies=["acme"], limit=2)).events:
        seen += [event.data["n"] for event in page.events]
        after = page.after
    assert seen == [1, 2, 4, 5, 7, 8]
    assert page.after == log.last == 10, "what others have is not looked at again"


async def test_a_reader_is_told_of_what_comes_while_it_waits(log: EventLog) -> None:
    """It wakes with the first event that is for it, not with one of another company."""
    waiting = asyncio.create_task(read_page(log, 0, companies=["acme"], wait_s=10.0))
    await log.add("bolt", "receipt", {})
    await asyncio.sleep(0)
    assert not waiting.done()
    await log.add("acme", "receipt", {})
    assert numbers(await asyncio.wait_for(waiting, 5.0)) == [2]


async def test_a_wait_ends(log: EventLog) -> None:
    """Where nothing comes the page is empty, and its place is the log's end."""
    await log.add("bolt", "receipt", {})
    page = await read_page(log, 0, companies=["acme"], wait_s=0.02)
    assert (numbers(page), page.after) == ([], 1)


async def test_the_end_of_the_log_can_be_asked_for(log: EventLog) -> None:
    """Without a place to begin at, the answer is where the log ends."""
    await log.add("acme", "receipt", {})
    assert await read_page(log, None) == Page([], 1)


async def test_a_place_that_the_log_does_not_have_is_refused(log: EventLog) -> None:
    """A log that was made anew must not keep its readers waiting until it is as long as the old one."""
    with pytest.raises(UsageError, match="has no event 5000"):
        await read_page(log, 5000)
