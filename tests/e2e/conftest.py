"""The whole line on real parts: a service, its Node host with real Baileys, the simulator, PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from standfast.node import bridge_directory, node_binary
from standfast.postgres.options import DatabaseOptions
from standfast.service.service import Service, ServiceOptions
from standfast.service.simulator import Simulator
from standfast.sessions.backoff import Backoff
from standfast.sessions.events import Event
from standfast.sessions.session import Pairing, Session, State
from standfast.settings import Settings

_phones = itertools.count(79_990_100_001)
QUICK = Backoff(base_s=0.2, cap_s=1.0, steady_s=2.0)


async def until(done: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """The first true result of `done`; fails with `what` at the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not (result := done()):
        assert loop.time() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)
    return result


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """Short, because a socket's path may have no more than 100 bytes."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def new_phone() -> Callable[[], str]:
    """Made-up phone numbers, each once in the run."""
    return lambda: str(next(_phones))


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A WhatsApp of the test's own."""
    state = Path(tempfile.mkdtemp(prefix="sf-wa-"))
    running = Simulator(state, node_binary(), bridge_directory())
    await running.start()
    yield running
    await running.stop()
    shutil.rmtree(state, ignore_errors=True)


@dataclass
class Line:
    """A running service and what was heard from it; `restart` ends it and starts another on the same state."""

    settings: Settings
    simulator: Simulator
    options: ServiceOptions
    service: Service = field(init=False)
    heard: list[Event] = field(default_factory=list)
    phones: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        self.service = Service(self.settings, self.options)
        self.service.bus.subscribe(self.heard.append)
        await self.service.start()

    async def stop(self) -> None:
        await self.service.stop()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def session(self, company: str) -> Session:
        found = next((one for one in self.service.pool.sessions() if one.company == company), None)
        assert found is not None, f"no session of {company}"
        return found

    async def state(self, company: str, state: State, timeout_s: float = 20.0) -> Session:
        """The company's session, once it is in `state`."""
        pool = self.service.pool
        await until(
            lambda: any(one.company == company and one.state is state for one in pool.sessions()),
            f"{company} {state.value}; sessions: {[(s.company, s.state, s.reason) for s in pool.sessions()]}",
            timeout_s,
        )
        return self.session(company)

    async def event(self, company: str, kind: str, since: int = 0) -> dict[str, Any]:
        """The first event of `kind` among those heard from index `since` on."""

        def found() -> Event | None:
            matching = (e for e in self.heard[since:] if e.company == company and e.kind == kind)
            return next(matching, None)

        event: Event = await until(found, f"{kind} of {company}")
        return event.data

    async def pair(self, company: str, phone: str) -> Session:
        """Pair by QR, as a person with a phone would, and wait until the session is open."""
        self.phones[company] = phone
        since = len(self.heard)
        await self.service.pool.pair(company, Pairing("qr"))
        qr = (await self.event(company, "qr", since))["qr"]
        await self.simulator.ask("POST", "/scan", {"qr": qr, "phone": phone})
        return await self.state(company, State.OPEN)

    async def send(self, sender: str, receiver: str, text: str) -> str:
        """Send to another company of this line; the message's id."""
        sent = await self.service.pool.send_text(sender, f"{self.phones[receiver]}@s.whatsapp.net", text)
        message_id: str = sent["message_id"]
        return message_id

    def texts(self, company: str) -> list[str]:
        """Every text that the company has received, in order, doubles included."""
        return [
            str(event.data["message"]["text"])
            for event in self.heard
            if event.company == company and event.kind == "message" and not event.data["message"]["from_me"]
        ]

    async def received(self, company: str, texts: list[str], timeout_s: float = 30.0) -> None:
        """Wait until all of `texts` have come."""
        await until(
            lambda: set(texts) <= set(self.texts(company)),
            f"{company} has {len(set(texts) & set(self.texts(company)))} of {len(texts)} texts",
            timeout_s,
        )


@pytest.fixture
async def line(
    state_dir: Path, simulator: Simulator, database_options: DatabaseOptions
) -> AsyncIterator[Line]:
    """A service on a database of the test's own."""
    settings = Settings(state_dir=state_dir, database_url=SecretStr(database_options.to_conninfo()))
    options = ServiceOptions(host_environment=simulator.host_environment(), backoff=QUICK)
    made = Line(settings, simulator, options)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.stop()
