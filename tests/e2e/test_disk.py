"""The service's own disk in the middle of a chat, with real Baileys: full, or damaged."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
from collections.abc import Callable, Iterator

from standfast.authstate.company import Company
from standfast.errors import JournalUnwritable
from standfast.service.vault import vault_directory
from standfast.sessions.session import State
from tests.e2e.conftest import Line, until
from tests.e2e.test_outage import Talk

ACME = Company("acme")
LIMIT_BYTES = 256 * 1024
FILLER = b'"' + bytes(LIMIT_BYTES).replace(b"\0", b"x") + b'"'


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow, or be written, beyond a size that the vault's log has passed already."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def alerts(line: Line, name: str) -> list[dict[str, object]]:
    return [event.data for event in line.heard if event.kind == "alert" and event.data["name"] == name]


async def test_a_full_disk_in_a_chat(line: Line, new_phone: Callable[[], str]) -> None:
    """Nothing that cannot be stored is sent; what comes waits, and is handed over once when there is room again."""
    contact = new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "silent"})
    await line.pair("acme", new_phone())
    pool, jid = line.service.pool, f"{contact}@s.whatsapp.net"

    async def contact_writes(text: str) -> None:
        to = line.phones["acme"]
        await line.simulator.ask("POST", f"/contacts/{contact}/send", {"to": to, "text": text})

    await pool.send("acme", jid, {"text": "before"})
    await line.contact_received(contact, ["before"])
    await contact_writes("before")
    await line.received("acme", ["before"])
    await line.service.vault.set_keys(ACME, {"pre-key": {"filler": FILLER}})

    refused, generation = 0, line.session("acme").generation
    with full_disk():
        for number in range(3):
            await contact_writes(f"waits {number}")
            try:
                await pool.send("acme", jid, {"text": f"refused {number}"})
            except JournalUnwritable:
                refused += 1
        await until(lambda: alerts(line, "journal_unwritable"), "an alert")
        assert refused == 3
        assert line.texts("acme") == ["before"]
        assert line.service.vault.outage.state == "online"

    await line.received("acme", [f"waits {number}" for number in range(3)])
    await until(lambda: alerts(line, "journal_writable_again"), "its end")
    await pool.send("acme", jid, {"text": "after"})
    await line.contact_received(contact, ["after"])
    answer = await line.simulator.ask("GET", f"/contacts/{contact}/messages?after=0")
    assert [message["text"] for message in answer["messages"]] == ["before", "after"]
    assert line.texts("acme") == ["before", *(f"waits {number}" for number in range(3))]
    assert line.session("acme").generation == generation
    assert len(alerts(line, "journal_unwritable")) == 1


def damaged(line: Line) -> bool:
    """Every value in the file's tables becomes zeros, once there are many."""
    with contextlib.closing(sqlite3.connect(vault_directory(line.settings) / "vault.db")) as connection:
        (count,) = connection.execute("select count(*) from replica").fetchone()
        if count < 100:
            return False
        connection.execute("update replica set value = zeroblob(length(value))")
        connection.commit()
        return True


async def test_a_damaged_file_in_a_chat(pair_of: Line) -> None:
    """It is found, moved aside and rebuilt under the chat, in which nothing is lost, doubled or sent again."""
    line = pair_of
    retries, vault = await line.retries(), line.service.vault
    async with Talk(line) as talk:
        await until(lambda: len(talk.accepted["acme"]) > 5, "a chat")
        await until(lambda: damaged(line), "something in the tables")
        await vault.replica.verify()
        assert len(alerts(line, "replica_corrupt")) == 1
        refused, reached = talk.refused, len(talk.accepted["acme"]) + 10
        await until(lambda: len(talk.accepted["acme"]) > reached, "the chat goes on")
    await talk.arrived()
    assert talk.refused == refused, "it was rebuilt, and still something was refused"
    await line.restart()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    async with Talk(line, "repeats") as again:
        await until(lambda: len(again.accepted["bolt"]) > 5, "a chat")
    await again.arrived()
    assert again.refused == 0
    assert await line.retries() == retries
    (alert,) = alerts(line, "replica_corrupt")
    assert alert["level"] == "error", alert
