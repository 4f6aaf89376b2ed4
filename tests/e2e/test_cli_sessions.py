"""The commands that ask a running service, each as a process of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from standfast.postgres.pool import Statement
from standfast.sessions.session import State
from tests.e2e.conftest import Line
from tests.e2e.processes import Home, make_home

WANTED = Statement("test.wanted", "select company_id from standfast_sessions where wanted")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
async def standfast(line: Line) -> AsyncIterator[Home]:
    """A person's machine whose settings name the running service."""
    home = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield home
    home.clear()


async def test_sessions_and_status_tell_people_and_programs_the_same(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """Tables show each session without its whole number; --json is one document with every field."""
    await line.pair("acme", phone := new_phone())
    rows = (await standfast("sessions", "--json")).document
    assert [(row["company"], row["state"], row["wanted"]) for row in rows] == [("acme", "open", True)]
    status = (await standfast("status", "--json")).document
    assert status["sessions"][0]["company"] == "acme"
    assert status["database"]["state"] == "online"
    assert status["gateway"] == str(line.settings.state_dir / "gateway.sock")
    for command in ("sessions", "status"):
        shown = await standfast(command)
        assert shown.code == 0
        assert "open" in shown.out
        assert f"…{phone[-4:]}" in shown.out
        assert phone not in shown.out


async def test_send_brings_a_message_over(line: Line, standfast: Home, new_phone: Callable[[], str]) -> None:
    """A text, with anything in it, arrives as it was given; the id that is printed is the message's own."""
    await line.pair("acme", new_phone())
    await line.pair("bolt", phone := new_phone())
    text = 'two\nlines, "quotes", [bold]brackets[/] and 你好'
    sent = await standfast("send", "acme", f"+{phone}", text)
    assert sent.code == 0, sent.err
    await line.received("bolt", [text])
    message = (await line.event("bolt", "message"))["message"]
    assert sent.out == f"sent, id {message['id']}\n"
    as_json = await standfast("send", "acme", f"{phone}@s.whatsapp.net", "again", "--json")
    assert (as_json.document["state"], as_json.document["jid"]) == ("sent", f"{phone}@s.whatsapp.net")
    await line.received("bolt", ["again"])


async def test_a_session_is_stopped_started_and_restarted(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """Each command tells the state that follows, and the session goes there without being paired anew."""
    first = await line.pair("acme", new_phone())
    generation = first.generation
    assert (await standfast("stop", "acme")).out == "acme: closed (stopped by an operator)\n"
    assert line.session("acme").state is State.CLOSED
    assert (await standfast("start", "acme")).out == "acme: connecting\n"
    await line.state("acme", State.OPEN)
    assert (await standfast("restart", "acme")).out == "acme: connecting\n"
    session = await line.state("acme", State.OPEN)
    assert session.generation == generation + 2
    stats = await line.simulator.ask("GET", "/stats")
    assert stats["pairings"] == 1


async def test_a_stopped_session_stays_so_over_a_restart(
    line: Line, standfast: Home, new_phone: Callable[[], str]
) -> None:
    """What an operator stopped, no start of the service wakes."""
    await line.pair("acme", new_phone())
    await line.pair("bolt", new_phone())
    assert (await standfast("stop", "acme")).code == 0
    await line.restart()
    await line.state("bolt", State.OPEN)
    assert [row["company"] for row in (await standfast("sessions", "--json")).document] == ["bolt"]
    assert (await standfast("start", "acme")).code == 0
    await line.state("acme", State.OPEN)


async def test_logout_unlinks_the_device(line: Line, standfast: Home, new_phone: Callable[[], str]) -> None:
    """WhatsApp forgets the device, the session says so, and the company can be paired anew."""
    await line.pair("acme", phone := new_phone())
    ran = await standfast("logout", "acme", "--yes")
    assert ran.code == 0, ran.err
    await line.state("acme", State.LOGGED_OUT)
    await no_devices(line, phone)
    pairing = standfast.start("pair", "acme")
    await pairing.says("Scan it with WhatsApp")
    qr = line.session("acme").prompt
    await line.simulator.ask("POST", "/scan", {"qr": qr, "phone": phone})
    assert await pairing.ended() == 0, pairing.text()


async def no_devices(line: Line, phone: str) -> None:
    """Wait until the phone has no linked device; Baileys leaves without waiting for the server's answer."""
    deadline = time.monotonic() + 10
    while (await line.simulator.ask("GET", f"/phones/{phone}/devices"))["devices"]:
        assert time.monotonic() < deadline, "the device is still linked"
        await asyncio.sleep(0.02)
