"""A foreign Node bot, which knows nothing of Standfast but `useStandfastAuthState`."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable

import pytest

from standfast.postgres.pool import Statement
from standfast.sessions.session import State
from standfast.vault.outage import State as Outage
from tests.e2e.bot import Bot
from tests.e2e.conftest import Line, until
from tests.e2e.processes import Home, make_home
from tests.support import Proxy

COMPANIES = Statement("test.companies", "select company_id from whatsapp_auth")


@pytest.fixture
async def home(line: Line) -> AsyncIterator[Home]:
    """A machine whose settings name the running service."""
    made = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield made
    made.clear()


async def chat(line: Line, bot: Bot, phone: str, word: str) -> None:
    """A text each way between the bot and company `peer`."""
    await bot.send(line.phones["peer"], f"{word} from the bot")
    await line.received("peer", [f"{word} from the bot"])
    await line.service.pool.send("peer", f"{phone}@s.whatsapp.net", {"text": f"{word} to the bot"})
    await bot.received(f"{word} to the bot")


async def test_a_bot_is_killed_and_comes_back_without_pairing(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """It pairs and chats; after SIGKILL a new process logs in, gets what was sent meanwhile, and chats on."""
    await line.pair("peer", new_phone())
    phone = new_phone()
    bot = Bot(home, line.simulator, "standfast", "acme", "pair")
    await bot.pair(phone)
    await chat(line, bot, phone, "first")
    await bot.process.end(signal.SIGKILL)
    await line.service.pool.send("peer", f"{phone}@s.whatsapp.net", {"text": "while you were out"})
    again = Bot(home, line.simulator, "standfast", "acme")
    await again.told("open")
    await again.received("while you were out")
    await chat(line, again, phone, "second")
    assert again.events("qr") == []
    assert sorted(again.texts()) == ["second to the bot", "while you were out"]
    await again.end()


async def test_an_unknown_company_is_not_minted_unasked(line: Line, home: Home) -> None:
    """Without `pair: true` the bot is refused with the reason and the next step, and nothing is stored."""
    bot = Bot(home, line.simulator, "standfast", "nobody")
    refusal = await bot.told("refused")
    assert refusal["code"] == "company_unknown"
    assert "standfast pair" in refusal["next_step"]
    assert bot.events("qr") == []
    assert await line.service.database.fetch(COMPANIES) == []


async def test_a_bot_goes_on_when_the_service_is_restarted_under_it(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """Its connection to WhatsApp stays; after the restart it chats as before."""
    await line.pair("peer", new_phone())
    phone = new_phone()
    bot = Bot(home, line.simulator, "standfast", "acme", "pair")
    await bot.pair(phone)
    await chat(line, bot, phone, "before")
    await line.restart()
    await line.state("peer", State.OPEN)
    await chat(line, bot, phone, "after")
    assert bot.events("closed") == []
    assert len(bot.texts()) == 2
    await bot.end()


async def test_a_bot_goes_on_when_the_service_comes_back_without_postgresql(
    proxied_line: Line, proxy: Proxy, new_phone: Callable[[], str]
) -> None:
    """The restarted service opens its company from the replica, and the chat goes on into PostgreSQL's return."""
    line, phone = proxied_line, new_phone()
    home = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    try:
        await line.pair("peer", new_phone())
        bot = Bot(home, line.simulator, "standfast", "acme", "pair")
        await bot.pair(phone)
        await chat(line, bot, phone, "before")
        await proxy.close()
        await line.restart()
        await line.state("peer", State.OPEN)
        await chat(line, bot, phone, "during")
        await proxy.listen()
        await until(lambda: line.service.vault.outage.state is Outage.ONLINE, "PostgreSQL is back")
        await chat(line, bot, phone, "after")
        assert bot.events("closed") == []
        assert bot.events("lost") == []
        assert len(bot.texts()) == 3
        await bot.end()
    finally:
        home.clear()


async def test_two_bots_on_one_company_are_one_too_many(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """While one holds the company another bot and the service's own session are refused; afterwards they are let in."""
    bot = Bot(home, line.simulator, "standfast", "acme", "pair")
    await bot.pair(new_phone())
    second = Bot(home, line.simulator, "standfast", "acme")
    assert (await second.told("refused"))["code"] == "company_in_use"
    await line.service.pool.start("acme")
    refused = await line.state("acme", State.CLOSED)
    assert "held by another client" in str(refused.reason)
    assert bot.events("closed") == []
    await bot.end()
    third = Bot(home, line.simulator, "standfast", "acme")
    await third.told("open")
    await third.end()
