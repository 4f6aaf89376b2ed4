"""The examples, run as they stand."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from standfast.node import node_binary
from tests.e2e.conftest import Line
from tests.e2e.processes import Home, make_home

TESTS = Path(__file__).resolve().parent
EXAMPLES = TESTS.parents[1] / "examples"


@pytest.fixture
async def home(line: Line) -> AsyncIterator[Home]:
    """A machine whose settings name the running service."""
    made = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield made
    made.clear()


async def contact_of(line: Line, phone: str) -> str:
    """A contact that only listens."""
    await line.simulator.ask("POST", "/contacts", {"phone": phone, "behaviour": "silent"})
    return phone


async def is_echoed(line: Line, contact: str, to: str, text: str) -> None:
    """Send `text` as the contact; its echo must come back."""
    await line.simulator.ask("POST", f"/contacts/{contact}/send", {"to": to, "text": text})
    deadline = time.monotonic() + 20
    while f"echo: {text}" not in await heard_by(line, contact):
        assert time.monotonic() < deadline, await heard_by(line, contact)
        await asyncio.sleep(0.05)


async def is_online(line: Line, phone: str) -> None:
    """Wait until the phone's linked device is connected and has taken what waited for it: the bot answers only what
    comes live."""
    deadline = time.monotonic() + 20
    while True:
        devices = (await line.simulator.ask("GET", f"/phones/{phone}/devices"))["devices"]
        if any(device["online"] and device["queued"] == 0 for device in devices):
            return
        assert time.monotonic() < deadline, devices
        await asyncio.sleep(0.05)


async def heard_by(line: Line, contact: str) -> list[str]:
    """Every text that the contact received."""
    answer = await line.simulator.ask("GET", f"/contacts/{contact}/messages?after=0")
    return [message["text"] for message in answer["messages"]]


async def test_the_python_echo_bot(line: Line, home: Home, new_phone: Callable[[], str]) -> None:
    """Answers each message once; ends with the next step when the service ends."""
    await line.pair("acme", phone := new_phone())
    contact = await contact_of(line, new_phone())
    bot = home.run([sys.executable, "-u", EXAMPLES / "python" / "echo_bot.py", "acme"], {})
    await bot.says("echoing for acme")
    await is_echoed(line, contact, phone, "hello")
    await is_echoed(line, contact, phone, "and again")
    assert sorted(await heard_by(line, contact)) == ["echo: and again", "echo: hello"]
    await line.stop()
    assert await bot.ended() == 1
    assert "next: Start it with 'standfast up'" in bot.text()


async def test_the_python_echo_bot_without_a_service(line: Line, home: Home) -> None:
    """Says what to do instead of a traceback."""
    nowhere = {"STANDFAST_STATE_DIR": str(home.directory / "nowhere")}
    bot = home.run([sys.executable, EXAMPLES / "python" / "echo_bot.py", "acme"], nowhere)
    assert await bot.ended() == 1
    assert "next: Start it with 'standfast up'" in bot.text()
    assert "Traceback" not in bot.text()


async def test_the_node_bot(line: Line, home: Home, new_phone: Callable[[], str]) -> None:
    """Pairs and echoes; stopped and started again, it goes on without pairing. Ctrl-C ends it."""
    contact = await contact_of(line, new_phone())
    phone = new_phone()
    argv: list[str | Path] = [
        node_binary(),
        "--import",
        TESTS / "bots" / "simulated-whatsapp.mjs",
        EXAMPLES / "node-bot" / "bot.mjs",
        "acme",
    ]
    bot = home.run(argv, line.simulator.host_environment())
    await bot.says("scan this as a QR: ")
    found = re.search(r"scan this as a QR: (\S+)", bot.text())
    assert found is not None
    await line.simulator.ask("POST", "/scan", {"qr": found[1], "phone": phone})
    await is_online(line, phone)
    await is_echoed(line, contact, phone, "hello")
    await bot.end(signal.SIGINT)
    again = home.run(argv, line.simulator.host_environment())
    await is_online(line, phone)
    await is_echoed(line, contact, phone, "and again")
    assert "scan this" not in again.text()
    assert sorted(await heard_by(line, contact)) == ["echo: and again", "echo: hello"]
    await again.end()
