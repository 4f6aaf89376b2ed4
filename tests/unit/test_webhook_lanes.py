"""What a webhook is owed, as far as it is in memory: a chat's deliveries stay in order whatever is read when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.messaging.deliveries import DeliveryTable
from standfast.messaging.events import EventLog
from standfast.messaging.file import MessageFile
from standfast.messaging.webhooks_lanes import LANE_ITEMS, Lanes
from standfast.messaging.webhooks_registry import Registry, Webhook


class Owing:
    """A log whose every event is owed to the webhook `bot`."""

    def __init__(self, directory: Path) -> None:
        self.file = MessageFile(directory, b"k" * 32, lambda _where, _why: None)
        self.file.open()
        self.log = EventLog(self.file)
        self.log.load()
        self.table = DeliveryTable(self.file)

    async def start(self) -> None:
        registry = Registry(self.file)
        await registry.add(Webhook("bot", "http://x/", (), (), ("receipt",), 0.0))
        self.log.on_added(registry.owe)

    async def add(self, count: int, chat: str = "1@lid") -> None:
        for _ in range(count):
            await self.log.add("acme", "receipt", {}, chat)


@pytest.fixture
async def owing(tmp_path: Path) -> AsyncIterator[Owing]:
    made = Owing(tmp_path)
    await made.start()
    yield made
    await made.file.close()


async def test_what_comes_later_does_not_go_before_what_is_still_on_disk(owing: Owing) -> None:
    """A chat with more than fits into memory: new ones are not put behind those that happen to be there."""
    await owing.add(LANE_ITEMS + 10)
    lanes = Lanes(owing.table, "bot", set())
    lanes.fill()
    lane = lanes.begin(0.0)
    assert lane is not None
    given = []
    for turn in range(LANE_ITEMS + 20):
        if turn == 5:
            await owing.add(10)
            lanes.grown()
            lanes.fill()
        given.append(lane.items[0].number)
        lanes.done(lane)
    assert given == list(range(1, LANE_ITEMS + 21))
    assert not lane.items
    lanes.end(lane)
    lanes.fill()
    assert lanes.begin(0.0) is None, "what was read ahead is not handed out twice"


async def test_what_is_done_with_and_still_on_disk_is_not_handed_out_again(owing: Owing) -> None:
    """Reading anew skips it, also where a whole page of a chat was acknowledged."""
    await owing.add(2 * LANE_ITEMS + 5)
    settled = set(range(1, 2 * LANE_ITEMS + 1))
    lanes = Lanes(owing.table, "bot", settled)
    lanes.fill()
    lane = lanes.begin(0.0)
    assert lane is not None
    assert lane.items[0].number == 2 * LANE_ITEMS + 1


async def test_a_chat_that_rests_has_its_turn_when_it_is_due_or_woken(owing: Owing) -> None:
    """Not before; and only once."""
    await owing.add(1, "1@lid")
    await owing.add(1, "2@lid")
    lanes = Lanes(owing.table, "bot", set())
    lanes.fill()
    first, second = lanes.begin(0.0), lanes.begin(0.0)
    assert first is not None
    assert second is not None
    lanes.rest(first, 10.0)
    lanes.rest(second, 20.0)
    assert (lanes.begin(5.0), lanes.next_due()) == (None, 10.0)
    assert lanes.begin(10.0) is first
    lanes.wake([second])
    assert lanes.begin(10.0) is second
    assert lanes.begin(30.0) is None
