"""A service under random kills while messages go both ways: what is sent, what is killed, what came of it.

Everything that Standfast runs is killed: the service, its Node hosts, PostgreSQL; connections to WhatsApp are cut. What
is accepted (`send` returned) has to reach the contact once and in order; what the contact sent has to be taken once and
in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from standfast.errors import StandfastError
from standfast.messaging.mailbox import Mailbox
from standfast.service.client import connect
from standfast.service.simulator import Simulator
from standfast.vault.storage.cipher import own_key
from tests.e2e.conftest import until
from tests.e2e.processes import Home, Process, processes_of

ROOT = Path(__file__).resolve().parents[2]
ACME = "acme"
HOST, POSTGRES = "host.mjs", "postgres"


class Alerts:
    """Nothing is damaged here."""

    def take(self, alert: object) -> None:
        raise AssertionError(alert)


@dataclass
class Killed:
    """A service in `home` for the company acme, which is started again whenever it is killed."""

    home: Home
    simulator: Simulator
    chance: random.Random
    phone: str
    process: Process | None = None
    kills: dict[str, int] = field(default_factory=dict)

    async def start(self) -> None:
        program = [
            sys.executable,
            "-m",
            "tests.e2e.service_process",
            json.dumps(self.simulator.host_environment()),
        ]
        self.process = self.home.run(program, {})
        await self.process.says("running", timeout_s=60)

    async def pair(self) -> None:
        """As a person with a phone would."""
        async with connect(self.home.state.gateway_socket) as client, client.events(ACME) as events:
            await client.pair(ACME)
            async for event in events:
                if event.kind == "qr":
                    await self.simulator.ask("POST", "/scan", {"qr": event.data["qr"], "phone": self.phone})
                if event.kind == "state" and event.data["state"] == "open":
                    return

    async def add_webhook(self, url: str) -> None:
        """Have what comes in told to `url`."""
        async with connect(self.home.state.gateway_socket) as client:
            await client.webhooks("add", name="test", url=url)

    async def kill_one(self) -> None:
        """SIGKILL whatever chance wants; a service that is gone is started again."""
        kill = self.chance.choice([self._kill_service, self._kill_host, self._kill_postgres, self._cut])
        name = kill.__name__.removeprefix("_")
        self.kills[name] = self.kills.get(name, 0) + 1
        await kill()

    async def _kill_service(self) -> None:
        assert self.process is not None
        self.process.popen.kill()
        await self.process.ended()
        await self.home.no_process_remains()
        await self.start()

    async def _kill_host(self) -> None:
        self._kill_child(HOST)

    async def _kill_postgres(self) -> None:
        self._kill_child(POSTGRES)

    async def _cut(self) -> None:
        # Ours alone: what a plain Baileys client at the other end loses with its connection is its own affair.
        with contextlib.suppress(StandfastError):
            await self.simulator.ask("POST", "/faults", {"kind": "drop", "phone": self.phone})

    def _kill_child(self, what: str) -> None:
        found = [one for one in processes_of(self.home.directory) if what in " ".join(_command(one))]
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found[0].pid, signal.SIGKILL)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()[:3]
    except psutil.Error:
        return []


async def send_all(home: Home, phone: str, texts: list[str], pause_s: float) -> None:
    """Send each text until it was accepted, whatever happens to the service meanwhile."""
    for number, text in enumerate(texts):
        await _accepted(home, phone, text, f"key {number}")
        await asyncio.sleep(pause_s)


async def _accepted(home: Home, phone: str, text: str, key: str) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    while True:
        try:
            async with connect(home.state.gateway_socket) as client:
                await client.send(ACME, f"+{phone}", text, idempotency_key=key, wait_s=0)
                return
        except StandfastError:
            # A service that has just been started does not know its sessions yet.
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.1)


async def contact_texts(simulator: Simulator, phone: str) -> list[str]:
    """What the contact has, in the order in which it came."""
    answer = await simulator.ask("GET", f"/contacts/{phone}/messages?after=0")
    return [message["text"] for message in answer["messages"]]


def taken_texts(home: Home) -> list[str]:
    """What the service has taken, in the order in which it did."""
    directory = home.state.path
    mailbox = Mailbox(directory / "messages", own_key(directory / "vault" / "vault.key"), Alerts())
    mailbox.open()
    events = mailbox.log.after(0, companies=[ACME], kinds=["message"], limit=100_000)
    asyncio.get_running_loop().create_task(mailbox.close())
    return [str(event.data["text"]) for event in events if not event.data["from_me"]]


def outgoing_of(home: Home, text: str) -> object:
    """What the service keeps of a message that it was asked to send."""
    directory = home.state.path
    mailbox = Mailbox(directory / "messages", own_key(directory / "vault" / "vault.key"), Alerts())
    mailbox.open()
    found = [one for one in mailbox.outgoing.newest(ACME, limit=100_000) if one.content["text"] == text]
    return [
        (one.number, one.message_id, one.state.word, one.attempts, one.error, one.at, one.changed_at)
        for one in found
    ]


async def everything_arrived(killed: Killed, phone: str, texts: list[str]) -> None:
    """Wait until the contact has all of `texts`; fails with what is missing, and what is known of it."""
    got: list[str] = []

    async def has_all() -> bool:
        got[:] = await contact_texts(killed.simulator, phone)
        return set(texts) <= set(got)

    def missing() -> str:
        lost = [text for text in texts if text not in set(got)]
        kept = [outgoing_of(killed.home, text) for text in lost[:3]]
        return f"missing: {lost[:10]}, kept as {kept}; {killed.kills}"

    try:
        await until(has_all, missing, timeout_s=30)
    except BaseException:
        for path in ("/stats", "/contacts"):
            print(await killed.simulator.ask("GET", path))  # noqa: T201 - pytest shows it with a failure
        raise
