"""Sessions through outages of PostgreSQL, with real Baileys on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from standfast.errors import StandfastError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.client import connect
from standfast.service.simulator import Simulator
from standfast.sessions.session import State
from tests.e2e.conftest import Line, acquainted, make_line, until
from tests.e2e.processes import Home, make_home
from tests.support import Proxy

OUTAGE_S = 6.0
ROOT = Path(__file__).parents[2]


class Talk:
    """Both companies write to each other, some messages a second, until told to end."""

    def __init__(self, line: Line, verb: str = "says", interval_s: float = 0.1) -> None:
        self.line, self.verb, self.interval_s = line, verb, interval_s
        self.accepted: dict[str, list[str]] = {"acme": [], "bolt": []}
        self.refused = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        pairs = (("acme", "bolt"), ("bolt", "acme"))
        self._tasks = [asyncio.create_task(self._talk(*pair)) for pair in pairs]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _talk(self, sender: str, receiver: str) -> None:
        number = 0
        while True:
            number += 1
            text = f"{sender} {self.verb} {number}"
            try:
                await asyncio.shield(self._send(sender, receiver, text))
            except StandfastError:
                self.refused += 1
            await asyncio.sleep(self.interval_s)

    async def _send(self, sender: str, receiver: str, text: str) -> None:
        await self.line.send(sender, receiver, text)
        self.accepted[sender].append(text)

    async def _received(self, receiver: str, sent: set[str]) -> None:
        def missing() -> set[str]:
            return sent - set(self.line.texts(receiver))

        await until(lambda: not missing(), lambda: f"missing: {sorted(missing())}")

    async def arrived(self) -> None:
        """Everything that was accepted has arrived, once."""
        for sender, receiver in (("acme", "bolt"), ("bolt", "acme")):
            await self._received(receiver, set(self.accepted[sender]))
            doubles = [text for text, times in Counter(self.line.texts(receiver)).items() if times > 1]
            assert not doubles


@pytest.mark.parametrize("kind", ["refused", "hung"])
async def test_a_chat_does_not_notice_an_outage(proxied_line: Line, proxy: Proxy, kind: str) -> None:
    """PostgreSQL away in the middle of a chat: no message is refused, lost, late by seconds or doubled, and none
    needs a retry."""
    line = await acquainted(proxied_line)
    retries = await line.retries()
    generations = [session.generation for session in line.service.pool.sessions()]
    async with Talk(line) as talk:
        await until(lambda: len(talk.accepted["acme"]) > 5, "a chat")
        if kind == "refused":
            await proxy.close()
        else:
            proxy.flowing.clear()
        await until(lambda: line.service.vault.outage.state == "outage", "an outage", 6)
        before = len(talk.accepted["acme"])
        await asyncio.sleep(OUTAGE_S)
        assert len(talk.accepted["acme"]) - before > OUTAGE_S / talk.interval_s / 3
        await talk.arrived()
        if kind == "refused":
            await proxy.listen()
        else:
            proxy.flowing.set()
        await until(lambda: line.service.vault.outage.state == "online", "the end of the outage")
    await talk.arrived()
    assert talk.refused == 0
    assert await line.retries() == retries
    assert [session.generation for session in line.service.pool.sessions()] == generations


async def test_a_restart_in_an_outage(proxied_line: Line, proxy: Proxy) -> None:
    """The service starts, opens its sessions and chats with PostgreSQL away; later PostgreSQL has it all."""
    line = await acquainted(proxied_line)
    await proxy.close()
    await line.send("acme", "bolt", "before")
    await line.received("bolt", ["before"])
    await line.restart()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    async with Talk(line) as talk:
        await until(lambda: len(talk.accepted["bolt"]) > 10, "a chat")
    await talk.arrived()
    assert talk.refused == 0
    await proxy.listen()
    await until(lambda: line.service.vault.outage.state == "online", "the end of the outage")
    await line.restart()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    async with Talk(line, "repeats") as again:
        await until(lambda: len(again.accepted["bolt"]) > 5, "a chat")
    await again.arrived()


async def test_postgres_restored_to_an_older_copy(pair_of: Line, database: Database) -> None:
    """While a node runs: it is noticed and healed, and the chat goes on, also after a restart."""
    line = pair_of
    tables = ("whatsapp_auth", "whatsapp_keys", "standfast_writers")
    async with database.transaction("backup", 5.0) as connection:
        for table in tables:
            await connection.execute(f"create table backup_{table} as table {table}")
    for n in range(5):
        await line.send("acme", "bolt", f"meanwhile {n}")
        await line.send("bolt", "acme", f"answer {n}")
    await line.received("acme", [f"answer {n}" for n in range(5)])
    await until(lambda: not any(h.pending for h in line.service.vault.holdings()), "replication")
    async with database.transaction("restore", 5.0) as connection:
        for table in tables:
            await connection.execute(f"delete from {table}")
            await connection.execute(f"insert into {table} select * from backup_{table}")
    async with Talk(line) as talk:
        await until(lambda: len(talk.accepted["bolt"]) > 10, "a chat")
    await talk.arrived()
    await line.restart()
    for company in ("acme", "bolt"):
        await line.state(company, State.OPEN)
    retries = await line.retries()
    async with Talk(line, "repeats") as again:
        await until(lambda: len(again.accepted["bolt"]) > 5, "a chat")
    await again.arrived()
    assert await line.retries() == retries


async def test_a_second_node_takes_over(
    state_dir: Path, simulator: Simulator, database_options: DatabaseOptions
) -> None:
    """A node is killed in the middle of a chat; another one takes its companies over when the lease is out, and no
    message that was accepted is lost or handed over twice."""
    settings = {"durability": "remote", "lease_ttl_ms": 5000}
    second = make_line(state_dir, simulator, database_options, **settings)
    home = make_home(
        DATABASE_URL=database_options.to_conninfo(),
        STANDFAST_DURABILITY="remote",
        STANDFAST_LEASE_TTL_MS="5000",
        PYTHONPATH=str(ROOT),
    )
    try:
        first = await _paired_in(home.state.path, simulator, database_options, settings)
        second.phones = first.phones
        accepted, heard = await _chat_until_killed(home, simulator, first.phones)
        await second.start()
        for company in ("acme", "bolt"):
            await second.state(company, State.OPEN, timeout_s=25)
        async with Talk(second) as talk:
            await until(lambda: len(talk.accepted["bolt"]) > 5, "a chat")
        await talk.arrived()
        for sender, receiver in (("acme", "bolt"), ("bolt", "acme")):
            texts = [text for company, text in heard if company == receiver] + second.texts(receiver)
            counted = Counter(text for text in texts if text.startswith(f"{sender} writes"))
            assert set(accepted[sender]) <= set(counted)
            assert max(counted.values()) == 1
    finally:
        with contextlib.suppress(Exception):
            await second.stop()
        home.clear()


async def _paired_in(
    directory: Path, simulator: Simulator, database: DatabaseOptions, settings: dict[str, Any]
) -> Line:
    """A line that has been paired, has chatted, and has ended."""
    line = make_line(directory, simulator, database, **settings)
    await line.start()
    try:
        return await acquainted(line)
    finally:
        await line.stop()


def _is_dead(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


async def _chat_until_killed(
    home: Home, simulator: Simulator, phones: dict[str, str]
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Which texts the node in `home` accepted and which it handed over, until SIGKILL ended it."""
    program = [sys.executable, "-m", "tests.e2e.service_process", json.dumps(simulator.host_environment())]
    process = home.run(program, {})
    accepted: dict[str, list[str]] = {"acme": [], "bolt": []}
    heard: list[tuple[str, str]] = []
    await process.says("running")
    async with connect(home.state.gateway_socket) as client:

        async def listen() -> None:
            async for message in client.messages():
                heard.append((message.company, message.text or ""))  # noqa: PERF401 - kept when it is cut short

        async def talk(sender: str, receiver: str) -> None:
            for number in range(10_000):
                text = f"{sender} writes {number}"
                with contextlib.suppress(StandfastError):
                    await client.send(sender, f"+{phones[receiver]}", text)
                    accepted[sender].append(text)
                await asyncio.sleep(0.05)

        talking = [
            asyncio.create_task(work) for work in (listen(), talk("acme", "bolt"), talk("bolt", "acme"))
        ]
        await process.until(lambda: min(map(len, accepted.values())) > 10, "a chat")
        # The host first: what it has handed to a service that dies unread nobody hands over again.
        host = (await client.status()).host.pid
        assert host is not None
        os.kill(host, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(host) or _is_dead(host), "the end of the host")
        await asyncio.sleep(0.2)
        process.popen.kill()
        await process.ended()
        await home.no_process_remains()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
    return accepted, heard
