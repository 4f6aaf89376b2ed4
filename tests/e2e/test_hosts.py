"""Several Node hosts, deaf sockets, hosts that leak or hang: what happens to sessions and messages meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from standfast.postgres.options import DatabaseOptions
from standfast.service.simulator import Simulator
from standfast.sessions.hosts import HostsOptions
from standfast.sessions.session import State
from standfast.sessions.watch import WatchOptions
from tests.e2e.conftest import Line, acquainted, make_line, until

WATCH = WatchOptions(unconfirmed_s=2.0, host_age_s=0.0, host_silent_s=2.0)


@pytest.fixture
async def line(
    state_dir: Path, simulator: Simulator, database_options: DatabaseOptions, request: pytest.FixtureRequest
) -> AsyncIterator[Line]:
    """A service with short limits; the settings are the test's parameter."""
    settings: dict[str, Any] = getattr(request, "param", {})
    made = make_line(state_dir, simulator, database_options, **settings)
    made.options = replace(made.options, watch=WATCH, hosts=HostsOptions(idle_s=0.5))
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.stop()


def alerts(line: Line) -> list[str]:
    return [event.data["name"] for event in line.heard if event.kind == "alert"]


def closings(line: Line, company: str, since: int) -> int:
    """How often the company's session has left `open`."""
    states = [data["state"] for data in line.events(company, "state", since)]
    return states.count("connecting")


async def chat(line: Line, texts: list[str]) -> None:
    """acme writes to bolt through the outbox, and it arrives once and in order."""
    since = len(line.heard)
    for text in texts:
        await line.service.messenger.send("acme", f"+{line.phones['bolt']}", {"type": "text", "text": text})
    await until(lambda: line.texts("bolt", since) == texts, lambda: f"{texts}; {line.texts('bolt', since)}")


@pytest.mark.parametrize("line", [{"deaf_after_s": 5.0}], indirect=True)
@pytest.mark.parametrize("kind", ["mute", "deaf"])
async def test_a_deaf_session_comes_back_by_itself(line: Line, kind: str) -> None:
    """A socket that stays open and passes nothing, or answers pings only, is found by its traffic within its limit;
    what was sent to it and by it meanwhile arrives, once."""
    await acquainted(line)
    session, since = line.session("acme"), len(line.heard)
    generation = session.generation
    await line.simulator.ask("POST", "/faults", {"kind": kind, "phone": line.phones["acme"]})
    await line.send("bolt", "acme", "do you hear me?")
    sent = await line.service.messenger.send(
        "acme", f"+{line.phones['bolt']}", {"type": "text", "text": "do you?"}
    )
    await until(lambda: session.generation == generation + 1, "another socket", timeout_s=12)
    await line.state("acme", State.OPEN)
    await until(lambda: line.texts("acme", since) == ["do you hear me?"], "the message to it, once")
    await until(lambda: line.texts("bolt", since) == ["do you?"], "the message by it, once")
    assert (await line.service.messenger.outbox.settled(sent, 5)).state.word in ("sent", "delivered", "read")
    assert alerts(line).count("session_deaf") == 1
    assert line.session("bolt").reconnects == 0


@pytest.mark.parametrize("line", [{"sessions_per_host": 1, "deaf_after_s": 6.0}], indirect=True)
async def test_a_host_that_dies_concerns_its_own_sessions_only(line: Line) -> None:
    """Two companies on two hosts chat; one host is killed: the other's session stays open, and no message is lost."""
    await acquainted(line)
    first, second = line.service.hosts.members
    assert (set(first.companies), set(second.companies)) == ({"acme"}, {"bolt"})
    status = await line.service.status()
    assert [host["pid"] for host in status["hosts"]] == [first.engine.pid, second.engine.pid]
    since, pid = len(line.heard), second.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: line.session("bolt").state is not State.OPEN, "bolt closed")
    await chat(line, [f"number {n}" for n in range(10)])
    assert line.session("bolt").state is State.OPEN
    assert closings(line, "acme", since) == 0
    assert closings(line, "bolt", since) == 1

    await line.service.pool.stop("bolt")
    await until(lambda: line.service.hosts.members == (first,), "the host without sessions ended")
    await line.service.pool.start("bolt")
    await line.state("bolt", State.OPEN)
    assert len(line.service.hosts.members) == 2


async def test_a_host_that_leaks_is_replaced_under_chat_and_no_message_is_lost(line: Line) -> None:
    """A new host first, then the sessions one after the other, then the old one's end; sends wait in the outbox."""
    await acquainted(line)
    (old,) = line.service.hosts.members
    pid, texts = old.engine.pid, [f"number {n}" for n in range(40)]
    chatting = asyncio.create_task(chat(line, texts))
    line.service.watch.replace(old, "it leaks")
    await until(lambda: old not in line.service.hosts.members, "the old host ended")
    await chatting
    (new,) = line.service.hosts.members
    assert new.engine.pid != pid
    assert set(new.companies) == {"acme", "bolt"}
    assert "host_recycled" in alerts(line)
    for company in ("acme", "bolt"):
        assert line.session(company).state is State.OPEN
        assert line.events(company, "undecryptable") == []


async def test_a_host_that_answers_nothing_is_killed(line: Line) -> None:
    """A host that hangs would keep its sessions from everybody; another takes its place."""
    await acquainted(line)
    (member,) = line.service.hosts.members
    pid = member.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: member.engine.pid not in (None, pid), "another host", timeout_s=10)
    await chat(line, ["are you back?"])
    assert "host_hung" in alerts(line)
