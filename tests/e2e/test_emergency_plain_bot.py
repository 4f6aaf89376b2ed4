"""Folders of a node that stands on files, used by a plain Baileys bot, and taken in again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from standfast.sessions.session import State
from tests.e2e.bot import Bot
from tests.e2e.chatting import stand_on_files
from tests.e2e.conftest import Line
from tests.e2e.processes import Home, make_home


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    made = make_home()
    yield made
    made.clear()


async def test_a_plain_bot_goes_on_from_a_folder_and_the_service_from_there(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """useMultiFileAuthState on the folder reads what is sent now, and what was sent while nobody was there; then the
    service takes the changed folder in and reads and writes on, without a pairing and with every ratchet in order."""
    await line.pair("acme", phone := new_phone())
    contact = new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "echo"})
    await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "one"})
    await line.received("acme", ["echo: one"])
    report = await stand_on_files(line)
    assert report.ok
    await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "two"})
    await line.received("acme", ["echo: two"])
    await line.stop()

    await line.simulator.ask("POST", f"/contacts/{contact}/send", {"to": phone, "text": "for the bot"})
    bot = Bot(home, line.simulator, "files", line.settings.emergency_directory / "acme")
    await bot.told("open")
    await bot.received("for the bot")
    await bot.send(contact, "three")
    await bot.received("echo: three")
    await bot.end()

    await line.start()
    await line.state("acme", State.OPEN)
    # With the ratchet of before the bot this one would come with a counter that the bot has used.
    await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "four"})
    await line.received("acme", ["echo: four"])
    await line.simulator.ask("POST", f"/contacts/{contact}/send", {"to": phone, "text": "for the service"})
    await line.received("acme", ["for the service"])
    assert line.service.files.mode is not None
    heard = await line.simulator.ask("GET", f"/contacts/{contact}/messages?after=0")
    assert [message["text"] for message in heard["messages"]] == ["one", "two", "three", "four"]
    assert heard["undecryptable"] == 0
    stats = await line.simulator.ask("GET", "/stats")
    assert stats["logins_refused"] == 0
    alerts = [event.data["name"] for event in line.heard if event.kind == "alert"]
    assert "folder_taken_in" in alerts
    assert "folder_conflict" not in alerts
