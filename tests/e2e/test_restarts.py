"""Restarts of the Node host, of the service and of both while others keep sending."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import pytest

from standfast.errors import SendFailed, SessionNotOpen
from standfast.sessions.session import State
from tests.e2e.conftest import Line, shares_loop, until

PER_PHASE = 30


@dataclass
class Chatter:
    """A contact that talks to acme all the time, from the simulator's process: no restart here touches it."""

    line: Line
    phone: str

    async def start(self) -> None:
        body = {
            "phone": self.phone,
            "behaviour": "talk",
            "peer": self.line.phones["acme"],
            "interval_ms": 20,
        }
        await self.line.simulator.ask("POST", "/contacts", body)

    def heard(self) -> list[int]:
        """The numbers of the messages that acme has received."""
        texts = self.line.texts("acme")
        return [int(text.removeprefix("message ")) for text in texts if text.startswith("message ")]

    async def more(self, count: int = PER_PHASE) -> None:
        """Wait until acme has received `count` more messages."""
        target = len(self.heard()) + count
        await until(
            lambda: len(self.heard()) >= target, lambda: f"{target} messages, there are {self._gaps()}"
        )

    async def all_arrived(self) -> None:
        """Silence the contact and wait for its last message; none may be missing, and none come twice."""
        await self.line.simulator.ask("DELETE", f"/contacts/{self.phone}")
        await until(self._nothing_waits, "an empty queue at the server")
        await until(
            lambda: set(self.heard()) == set(range(1, max(self.heard()) + 1)), self._gaps, timeout_s=10.0
        )
        numbers = self.heard()
        assert len(numbers) == len(set(numbers)), "a message was handed over twice"
        assert numbers == sorted(numbers), "messages changed their order"

    async def _nothing_waits(self) -> bool:
        acme = self.line.phones["acme"]
        devices = (await self.line.simulator.ask("GET", f"/phones/{acme}/devices"))["devices"]
        return not any(device["queued"] for device in devices)

    def _gaps(self) -> str:
        numbers = set(self.heard())
        return f"{len(numbers)} messages; missing: {sorted(set(range(1, max(numbers, default=0))) - numbers)}"


@pytest.fixture
async def chatter(line: Line, new_phone: Callable[[], str]) -> Chatter:
    await line.pair("acme", new_phone())
    talking = Chatter(line, new_phone())
    await talking.start()
    await talking.more()
    return talking


async def kill_host(line: Line) -> None:
    """SIGKILL the Node host and wait until its session is open again in another."""
    pid = line.service.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: line.service.engine.pid not in (None, pid), "another Node host")
    await line.state("acme", State.OPEN)


async def restart_service(line: Line) -> None:
    await line.restart()
    await line.state("acme", State.OPEN)


async def restart_both(line: Line) -> None:
    """The host dies, and the service is ended before it has another."""
    pid = line.service.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await restart_service(line)


@pytest.mark.parametrize("restart", [kill_host, restart_service, restart_both])
async def test_nothing_is_lost_over_a_restart(
    chatter: Chatter, restart: Callable[[Line], Awaitable[None]]
) -> None:
    """What is sent before, during and after arrives, once and in order; no pairing is needed."""
    line, since = chatter.line, len(chatter.line.heard)
    for _ in range(2):
        await restart(line)
        await chatter.more()
    await chatter.all_arrived()
    assert line.events("acme", "qr", since) == []
    assert line.events("acme", "paired", since) == []


@shares_loop
async def test_what_was_sent_to_a_stopped_service_is_delivered_when_it_starts(
    shared_pair: Line, new_phone: Callable[[], str]
) -> None:
    """A backlog that grew while nobody was connected comes whole, once and in order, and can be answered."""
    line, contact = shared_pair, new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "silent"})
    await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "first"})
    await line.contact_received(contact, ["first"])
    await line.stop()
    since = len(line.heard)
    backlog = [f"while you were away {n}" for n in range(100)]
    for text in backlog:
        await line.simulator.ask(
            "POST", f"/contacts/{contact}/send", {"to": line.phones["acme"], "text": text}
        )
    await line.start()
    await line.state("acme", State.OPEN)
    await line.received("acme", backlog)
    assert line.texts("acme", since) == backlog
    await line.service.pool.send("acme", f"{contact}@s.whatsapp.net", {"text": "I am back"})
    await line.contact_received(contact, ["first", "I am back"])


@shares_loop
async def test_a_session_that_ends_within_a_backlog_loses_nothing_of_it(
    shared_pair: Line, new_phone: Callable[[], str]
) -> None:
    """What was begun is kept or stays with the server, and so does the rest: each message comes once, in order."""
    line, contact = shared_pair, new_phone()
    await line.simulator.ask("POST", "/contacts", {"phone": contact, "behaviour": "silent"})
    await line.service.pool.stop("acme")
    since = len(line.heard)
    backlog = [f"while you were away {n}" for n in range(80)]
    for text in backlog:
        body = {"to": line.phones["acme"], "text": text}
        await line.simulator.ask("POST", f"/contacts/{contact}/send", body)

    def has(many: int) -> bool:
        return len(line.texts("acme", since)) >= many

    for many in (1, 20):
        await line.service.pool.start("acme")
        await until(partial(has, many), f"{many} of the backlog")
        await line.service.pool.stop("acme")
    assert len(line.texts("acme", since)) < len(backlog), "the backlog was over before the session ended"
    await line.service.pool.start("acme")
    await until(partial(has, len(backlog)), "all of the backlog")
    assert line.texts("acme", since) == backlog


@shares_loop
async def test_sends_during_a_host_restart_fail_clearly_and_none_is_doubled(shared_pair: Line) -> None:
    """A send that was refused may be repeated, and those that were accepted arrive exactly once."""
    line, since = shared_pair, len(shared_pair.heard)
    accepted: list[str] = []
    refused = 0
    pid = line.service.engine.pid
    assert pid is not None
    for number in range(60):
        if number == 20:
            os.kill(pid, signal.SIGKILL)
        if number == 40:
            await line.state("acme", State.OPEN)
            await line.state("bolt", State.OPEN)
        try:
            await line.send("acme", "bolt", f"number {number}")
        except (SendFailed, SessionNotOpen):
            refused += 1
        else:
            accepted.append(f"number {number}")
    assert refused
    assert accepted[-20:] == [f"number {n}" for n in range(40, 60)]
    await line.received("bolt", accepted)
    arrived = line.texts("bolt", since)
    assert len(arrived) == len(set(arrived))
