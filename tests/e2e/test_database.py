"""The chat while PostgreSQL fails, and a start without it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

from standfast.errors import DatabaseRejected, SendFailed, StandfastError
from standfast.postgres.options import DatabaseOptions
from standfast.service.simulator import Simulator
from standfast.sessions.session import State
from standfast.state_dir import StateDirectory
from tests.e2e.conftest import Line, make_line
from tests.support import Proxy

OUTAGE_S = 2.0


async def refuse(proxy: Proxy) -> None:
    """PostgreSQL is down: connections are cut and new ones refused."""
    await proxy.close()
    await asyncio.sleep(OUTAGE_S)
    await proxy.listen()


async def stall(proxy: Proxy) -> None:
    """The network is a black hole for a while."""
    proxy.flowing.clear()
    await asyncio.sleep(OUTAGE_S)
    proxy.flowing.set()


@pytest.mark.parametrize("outage", [refuse, stall])
async def test_a_short_outage_loses_no_message(
    proxied_line: Line,
    proxy: Proxy,
    new_phone: Callable[[], str],
    outage: Callable[[Proxy], Awaitable[None]],
) -> None:
    """Two seconds without PostgreSQL in the middle of a chat: what is accepted arrives, once; what needs a key that
    was never read is refused as worth a retry; and nobody reconnects."""
    line = proxied_line
    await line.pair("acme", new_phone())
    await line.pair("bolt", new_phone())
    await line.acquaint("acme", "bolt")
    generations = [session.generation for session in line.service.pool.sessions()]

    repeated: set[str] = set()

    async def talk(sender: str, receiver: str) -> list[str]:
        texts = [f"{sender} says {n}" for n in range(40)]
        for text in texts:
            while not await _accepted(line, sender, receiver, text):
                repeated.add(text)
            await asyncio.sleep(0.01)
        return texts

    talking = asyncio.gather(talk("acme", "bolt"), talk("bolt", "acme"))
    await line.received("bolt", ["acme says 5"])
    await outage(proxy)
    from_acme, from_bolt = await asyncio.wait_for(talking, 40)
    await line.received("bolt", from_acme)
    await line.received("acme", from_bolt)
    once = Counter([*from_acme, *from_bolt])
    extra = Counter((*line.texts("bolt")[1:], *line.texts("acme")[1:])) - once
    assert set(extra) <= repeated
    assert len(repeated) <= 2, "at most the message that each was just sending"
    assert [session.generation for session in line.service.pool.sessions()] == generations


async def test_terminated_connections_lose_no_message(
    pair_of: Line, database_options: DatabaseOptions
) -> None:
    """An administrator ends every connection of ours, several times: the chat goes on, complete and in order."""
    line = pair_of
    texts = [f"number {n}" for n in range(60)]
    for number, text in enumerate(texts):
        if number % 15 == 7:
            await asyncio.to_thread(_terminate_all, database_options)
        await line.send("acme", "bolt", text)
    await line.received("bolt", texts)
    assert line.texts("bolt")[1:] == texts
    assert await line.retries() == 0


async def test_a_wrong_database_is_named_and_leaves_nothing_behind(
    state_dir: Path, simulator: Simulator, tcp_options: DatabaseOptions
) -> None:
    """A database that is missing or refuses the password ends a start without replica with its own error; no process,
    socket or lock stays, and the password is not repeated."""
    wrong: list[tuple[DatabaseOptions, type[StandfastError]]] = [
        (replace(tcp_options, dbname="no_such_database"), DatabaseRejected),
        (replace(tcp_options, password="wrong-Secret-1"), DatabaseRejected),
    ]
    for options, expected in wrong:
        line = make_line(state_dir, simulator, options)
        with pytest.raises(expected) as failed:
            await line.start()
        assert failed.value.next_step
        assert "wrong-Secret-1" not in f"{failed.value} {failed.value.as_wire()}"
        assert _node_hosts() == []
        assert not (state_dir / "gateway.sock").exists()
        assert StateDirectory(state_dir).holder() is None


async def test_a_stopped_service_leaves_no_process(line: Line, new_phone: Callable[[], str]) -> None:
    """Host, socket and lock end with the service, within five seconds."""
    await line.pair("acme", new_phone())
    assert len(_node_hosts()) == 1
    await asyncio.wait_for(line.stop(), 5)
    assert _node_hosts() == []
    assert not line.service.gateway.path.exists()
    assert StateDirectory(line.settings.state_dir).holder() is None


async def _accepted(line: Line, sender: str, receiver: str, text: str) -> bool:
    """Whether the send succeeded; after a refusal, which a retry can help, a moment later."""
    try:
        await line.send(sender, receiver, text)
    except SendFailed:
        assert line.session(sender).state is State.OPEN
        await asyncio.sleep(0.2)
        return False
    return True


def _node_hosts() -> list[int]:
    """Living Node hosts among this process's children."""
    return [child.pid for child in psutil.Process().children(recursive=True) if _is_host(child)]


def _is_host(process: psutil.Process) -> bool:
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and any("host.mjs" in part for part in process.cmdline())
    except psutil.NoSuchProcess:  # it ends just now
        return False


def _terminate_all(options: DatabaseOptions) -> None:
    with psycopg.connect(options.to_conninfo(), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
