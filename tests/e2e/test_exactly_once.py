"""Every process killed at random while messages go both ways: nothing is lost, doubled or overtaken.

`KILLS_SEED` repeats the choice of what is killed, not the moment:
make chaos-chat KILLS_SEED=7 KILLS=60 KILLS_MESSAGES=1000 PYTEST_ARGS=tests/e2e/test_exactly_once.py
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable

import pytest

from standfast.service.simulator import Simulator
from tests.e2e.conftest import until
from tests.e2e.killing import ROOT, Killed, contact_texts, everything_arrived, send_all, taken_texts
from tests.e2e.processes import make_home
from tests.receiver import Receiver

MESSAGES = int(os.environ.get("KILLS_MESSAGES", "1000"))
KILLS = int(os.environ.get("KILLS", "60"))
SEED = int(os.environ.get("KILLS_SEED", str(random.randrange(10_000))))


@pytest.fixture
async def killed(simulator: Simulator, new_phone: Callable[[], str]) -> AsyncIterator[Killed]:
    """A service with a paired company."""
    home = make_home(
        PYTHONPATH=os.pathsep.join((str(ROOT / "src"), str(ROOT))), STANDFAST_NEW_CHATS_PER_MINUTE="0"
    )
    home.environment["STANDFAST_ALLOW_PRIVATE_URLS"] = "127.0.0.1"
    made = Killed(home, simulator, random.Random(SEED), new_phone())
    print(f"KILLS_SEED={SEED}")  # noqa: T201 - pytest shows it with a failure
    await made.start()
    await made.pair()
    yield made
    home.clear()


async def _both_ways(killed: Killed, listener: str, talker: str, messages: int, kills: int) -> None:
    async with Receiver() as receiver:
        await killed.add_webhook(receiver.url)
        await _chat(killed, listener, talker, messages, kills)
        taken = taken_texts(killed.home)
        expected = [f"message {number}" for number in range(1, len(taken) + 1)]
        assert taken == expected
        assert len(taken) > kills, "hardly anything came in"
        await until(
            lambda: set(receiver.texts()) >= set(expected), "every message at the webhook", timeout_s=60
        )
        assert list(dict.fromkeys(receiver.texts())) == expected, "the webhook was told in another order"


async def _chat(killed: Killed, listener: str, talker: str, messages: int, kills: int) -> None:
    ask = killed.simulator.ask
    await ask("POST", "/contacts", {"phone": listener, "behaviour": "silent"})
    interval_ms = 40
    await ask(
        "POST",
        "/contacts",
        {"phone": talker, "behaviour": "talk", "peer": killed.phone, "interval_ms": interval_ms},
    )
    texts = [f"to the contact {number}" for number in range(messages)]
    sending = asyncio.create_task(send_all(killed.home, listener, texts, interval_ms / 1_000))
    for _ in range(kills):
        await asyncio.sleep(killed.chance.uniform(0.1, 1.5))
        await killed.kill_one()
    await sending
    await ask("DELETE", f"/contacts/{talker}")
    await everything_arrived(killed, listener, texts)
    await until(
        lambda: _nothing_waits(killed.simulator, killed.phone), "an empty queue at the server", timeout_s=60
    )
    got = await contact_texts(killed.simulator, listener)
    wrong = [(text, expected) for text, expected in zip(got, texts, strict=False) if text != expected]
    stats = await ask("GET", "/stats")
    assert got == texts, f"order changed, or a double: {wrong[:4]}; {killed.kills}; {stats}"


async def _nothing_waits(simulator: Simulator, phone: str) -> bool:
    devices = (await simulator.ask("GET", f"/phones/{phone}/devices"))["devices"]
    return not any(device["queued"] for device in devices)


@pytest.mark.timeout(180)
async def test_nothing_is_lost_or_doubled_by_a_few_kills(
    killed: Killed, new_phone: Callable[[], str]
) -> None:
    """A slice of the long run: a few kills under chat."""
    await _both_ways(killed, new_phone(), new_phone(), messages=60, kills=4)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
async def test_nothing_is_lost_or_doubled_by_any_kill(killed: Killed, new_phone: Callable[[], str]) -> None:
    """A thousand messages go out, about as many come in, and something is killed every second or so."""
    await _both_ways(killed, new_phone(), new_phone(), messages=MESSAGES, kills=KILLS)
