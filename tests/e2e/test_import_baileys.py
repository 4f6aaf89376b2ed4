"""Out to Baileys' own multi-file auth state and back in: what one side knows, the other can go on with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from standfast.sessions.session import State
from tests.e2e.bot import Bot
from tests.e2e.conftest import Line
from tests.e2e.processes import Home, make_home


@pytest.fixture
async def home(line: Line) -> AsyncIterator[Home]:
    """A machine whose settings name the running service and its database."""
    assert line.settings.database_url is not None
    made = make_home(
        STANDFAST_STATE_DIR=str(line.settings.state_dir),
        DATABASE_URL=line.settings.database_url.get_secret_value(),
    )
    yield made
    made.clear()


async def done(home: Home, *args: str | Path) -> str:
    """What a command that must succeed said."""
    ran = await home(*args)
    assert ran.code == 0, ran.err
    return ran.out


async def test_a_company_moves_to_plain_baileys_and_back(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """export → useMultiFileAuthState logs in and chats → import --replace → start: no pairing, all decrypted."""
    await line.pair("acme", phone := new_phone())
    contact = new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "echo"})
    await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "one"})
    await line.received("acme", ["echo: one"])
    await done(home, "stop", "acme")
    await done(home, "export", "acme", "folder")

    bot = Bot(home, line.simulator, "files", "folder")
    await bot.told("open")
    await bot.send(contact, "two")
    await bot.received("echo: two")
    await bot.end()
    await line.simulator.ask("POST", f"/contacts/{contact}/send", {"to": phone, "text": "three"})

    await done(home, "import", "folder", "acme", "--replace")
    await done(home, "start", "acme")
    await line.state("acme", State.OPEN)
    await line.received("acme", ["three"])
    await done(home, "send", "acme", f"+{contact}", "four")
    await line.received("acme", ["echo: four"])
    assert line.texts("acme") == ["echo: one", "three", "echo: four"]
    heard = await line.simulator.ask("GET", f"/contacts/{contact}/messages?after=0")
    assert [message["text"] for message in heard["messages"]] == ["one", "two", "four"]
    assert heard["undecryptable"] == 0
    stats = await line.simulator.ask("GET", "/stats")
    assert (stats["pairings"], stats["logins_refused"]) == (2, 0)


async def test_import_is_refused_while_the_session_runs(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """7, naming the command that stops it; the session is none the worse for it."""
    await line.pair("acme", new_phone())
    await done(home, "export", "acme", "folder")
    refused = await home("import", "folder", "acme", "--replace")
    assert refused.code == 7
    assert "next: Stop it first: standfast stop acme" in refused.err
    assert line.session("acme").state is State.OPEN
