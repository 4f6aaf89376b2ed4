"""A company that is lost to another owner while it is in use, and a machine that cannot store: real Baileys clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, JournalUnwritable, SessionNotOpen
from standfast.sessions.session import State
from tests.e2e.bot import Bot
from tests.e2e.conftest import Line, shares_loop, stays, until
from tests.e2e.processes import Home, make_home

TAKEN = CompanyInUse("this node no longer owns the company", next_step="Stop the other owner first.")


def fence(line: Line, company: str) -> None:
    """What the vault does when PostgreSQL says that another node owns the company."""
    line.service.vault.keeper.on_fenced(Company(company), TAKEN)


@pytest.fixture
async def home(line: Line) -> AsyncIterator[Home]:
    """A machine whose settings name the running service."""
    made = make_home(STANDFAST_STATE_DIR=str(line.settings.state_dir))
    yield made
    made.clear()


async def has_synchronized(line: Line) -> bool:
    creds = await line.service.vault.load_creds(Company("acme"))
    return creds is not None and json.loads(creds)["accountSyncCounter"] > 0


@shares_loop
async def test_a_session_that_is_lost_under_chat_loses_nothing_of_it(shared_pair: Line) -> None:
    """Its socket ends without a logout and does not come back by itself; taken back, it gets every message once."""
    line, since = shared_pair, len(shared_pair.heard)
    texts = [f"to acme {n}" for n in range(40)]

    async def chat() -> None:
        for text in texts:
            await line.send("bolt", "acme", text)

    chatting = asyncio.create_task(chat())
    await until(lambda: len(line.texts("acme", since)) >= 10, "ten messages")
    fence(line, "acme")
    session = line.session("acme")
    assert (session.state, session.reason) == (State.REPLACED, TAKEN.message)
    assert str(session.next_step).endswith("Then 'standfast restart acme' takes it back.")
    alert = await line.event("acme", "alert", since)
    assert (alert["name"], alert["level"]) == ("session_replaced", "error")
    with pytest.raises(SessionNotOpen):
        await line.send("acme", "bolt", "from a former owner")
    await asyncio.wait_for(chatting, 20)
    had = len(line.texts("acme", since))
    assert had < len(texts), "nothing was sent while nobody was there"
    await stays(
        lambda: session.state is State.REPLACED and len(line.texts("acme", since)) == had,
        "it came back by itself, or took messages from the next owner",
        0.5,
    )
    await line.service.pool.restart("acme")
    await line.state("acme", State.OPEN)
    await line.received("acme", texts)
    assert line.texts("acme", since) == texts
    await line.send("acme", "bolt", "still the same device")
    await line.received("bolt", ["still the same device"])
    assert line.events("bolt", "undecryptable", since) == []


@shares_loop
async def test_what_cannot_be_stored_is_neither_sent_nor_lost(
    shared_pair: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the journal of one company cannot be written it sends nothing, and what it is sent waits for it."""
    line, since = shared_pair, len(shared_pair.heard)
    vault, retries = line.service.vault, await line.retries()
    number = next(r.number for r in vault.replica.companies() if r.company == "acme")
    append = vault.replica.append

    def full(company: int, *args: object, **more: object) -> object:
        if company == number:
            raise JournalUnwritable("the disk is full")
        return append(company, *args, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(vault.replica, "append", full)
        await line.send("bolt", "acme", "waits for the disk")
        for _ in range(2):
            # What the vault says before the send, and what the store says in the middle of one, are the same.
            with pytest.raises(JournalUnwritable):
                await line.send("acme", "bolt", "never sent")
            vault.note_unwritable(None)
        assert line.texts("acme", since) == []
    vault.note_unwritable(None)
    await line.received("acme", ["waits for the disk"])
    await line.send("acme", "bolt", "sent again")
    await line.received("bolt", ["sent again"])
    assert line.texts("bolt", since) == ["sent again"]
    assert line.texts("acme", since) == ["waits for the disk"]
    assert await line.retries() == retries


async def test_a_bot_that_loses_its_company_hears_of_it(
    line: Line, home: Home, new_phone: Callable[[], str]
) -> None:
    """Its calls are refused from then on, it writes nothing more, and its successor gets what came meanwhile."""
    await line.pair("peer", new_phone())
    phone = new_phone()
    bot = Bot(home, line.simulator, "standfast", "acme", "pair")
    await bot.pair(phone)
    await bot.send(line.phones["peer"], "before")
    await line.received("peer", ["before"])
    # Until its first synchronization is over, and known to be, Baileys keeps what it receives for 20 s.
    await line.service.pool.send("peer", f"{phone}@s.whatsapp.net", {"text": "hello"})
    await bot.received("hello")
    await until(lambda: has_synchronized(line), "creds that say so")
    fence(line, "acme")
    assert await bot.told("lost") == {"event": "lost", "code": "company_in_use", "message": TAKEN.message}
    await bot.told("closed")
    await line.service.pool.send("peer", f"{phone}@s.whatsapp.net", {"text": "for its successor"})
    assert bot.texts() == ["hello"]
    successor = Bot(home, line.simulator, "standfast", "acme")
    await successor.received("for its successor")
    await successor.send(line.phones["peer"], "after")
    await line.received("peer", ["after"])
    assert line.session("peer").undecryptable == 0
    await bot.end()
    await successor.end()
