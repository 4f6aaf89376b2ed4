"""The whole line on real parts: a service, its Node host with real Baileys, the simulator, PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from standfast.node import bridge_directory, node_binary
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.service.service import Service, ServiceOptions
from standfast.service.simulator import Ready, Simulator
from standfast.sessions.backoff import Backoff
from standfast.sessions.breaker import BreakerLimits
from standfast.sessions.events import Event
from standfast.sessions.session import Pairing, Session, State
from standfast.settings import Settings
from tests.e2e.whatsapp import LentSimulator, standing_simulator
from tests.support import Proxy

_phones = itertools.count(79_990_100_001)
_databases = itertools.count(1)
shares_loop = pytest.mark.asyncio(loop_scope="module")
# Tests close sessions faster than any breaker would let them come back.
QUICK = Backoff(base_s=0.2, cap_s=1.0, steady_s=2.0, breaker=BreakerLimits(failures=100))


async def until(done: Callable[[], Any], what: str | Callable[[], str], timeout_s: float = 20.0) -> Any:
    """The first true result of `done`, which may be asynchronous; fails at the deadline with `what`, which may be
    worked out only then."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        result = done()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if loop.time() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.02)


async def stays(holds: Callable[[], bool], what: str, for_s: float) -> None:
    """Watch that `holds` is true all the time; fails with `what` as soon as it is not."""
    loop = asyncio.get_running_loop()
    end = loop.time() + for_s
    while loop.time() < end:
        assert holds(), what
        await asyncio.sleep(0.02)


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


@pytest.fixture(scope="session")
def whatsapp() -> Iterator[tuple[Path, Ready]]:
    """A simulator that runs while tests come and go."""
    with standing_simulator() as standing:
        yield standing


@pytest.fixture
async def simulator(whatsapp: tuple[Path, Ready]) -> AsyncIterator[Simulator]:
    """It for one test, as if it were new: but for the phones that other tests made up, each of another number."""
    lent = LentSimulator(*whatsapp)
    await lent.take()
    yield lent
    await lent.give_back()


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
            lambda: (
                f"{company} {state.value}; sessions: {[(s.company, s.state, s.reason) for s in pool.sessions()]}"
            ),
            timeout_s,
        )
        return self.session(company)

    def events(self, company: str, kind: str, since: int = 0) -> list[dict[str, Any]]:
        """Every event of `kind` among those heard from index `since` on."""
        return [e.data for e in self.heard[since:] if e.company == company and e.kind == kind]

    async def event(self, company: str, kind: str, since: int = 0) -> dict[str, Any]:
        """The first event of `kind` among those heard from index `since` on."""
        found: list[dict[str, Any]] = await until(
            lambda: self.events(company, kind, since), f"{kind} of {company}"
        )
        return found[0]

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
        sent = await self.service.pool.send(sender, f"{self.phones[receiver]}@s.whatsapp.net", {"text": text})
        message_id: str = sent["message_id"]
        return message_id

    async def acquaint(self, one: str, other: str) -> None:
        """The first message each way, one after the other: two that cross cost a retry."""
        for sender, receiver in ((one, other), (other, one)):
            await self.send(sender, receiver, f"{sender} greets {receiver}")
            await self.received(receiver, [f"{sender} greets {receiver}"])

    async def contact_received(self, phone: str, texts: list[str]) -> None:
        """Wait until a contact of the simulator has all of `texts`."""

        async def has_all() -> bool:
            answer = await self.simulator.ask("GET", f"/contacts/{phone}/messages?after=0")
            return set(texts) <= {message["text"] for message in answer["messages"]}

        await until(has_all, f"{texts} at the contact")

    async def retries(self) -> int:
        """How often a message had to be sent again because it could not be decrypted."""
        count: int = (await self.simulator.ask("GET", "/stats"))["retries"]
        return count

    def texts(self, company: str, since: int = 0) -> list[str]:
        """Every text that the company has received, in order, doubles included."""
        messages = (data["message"] for data in self.events(company, "message", since))
        return [str(message["text"]) for message in messages if not message["from_me"]]

    async def received(self, company: str, texts: list[str], timeout_s: float = 30.0) -> None:
        """Wait until all of `texts` have come."""
        await until(
            lambda: set(texts) <= set(self.texts(company)),
            lambda: (
                f"{company} lacks of {len(texts)} texts {sorted(set(texts) - set(self.texts(company)))[:20]}"
            ),
            timeout_s,
        )


def make_line(state_dir: Path, simulator: Simulator, database: DatabaseOptions, **settings: Any) -> Line:
    """A line that has not been started."""
    options = ServiceOptions(host_environment=simulator.host_environment(), backoff=QUICK)
    dsn = SecretStr(database.to_conninfo())
    given = {"http": "off", **settings}
    return Line(Settings(state_dir=state_dir, database_url=dsn, **given), simulator, options)


@pytest.fixture
async def line(
    state_dir: Path, simulator: Simulator, database_options: DatabaseOptions
) -> AsyncIterator[Line]:
    """A service on a database of the test's own."""
    made = make_line(state_dir, simulator, database_options)
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.stop()


class DistantProxy(Proxy):
    """A proxy that takes `delay_s` for whatever passes: a database that is not next door."""

    delay_s = 0.0

    async def _pump(self, reader: asyncio.StreamReader, *others: Any, **more: Any) -> None:
        delayed = asyncio.StreamReader()
        passing = asyncio.create_task(super()._pump(delayed, *others, **more))
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_s)
                delayed.feed_data(data)
        finally:
            delayed.feed_eof()
            await passing


@pytest.fixture
async def proxy(tcp_options: DatabaseOptions) -> AsyncIterator[DistantProxy]:
    """What stands before the database of `proxied_line`, and can refuse, cut, stall and delay."""
    assert tcp_options.host is not None
    assert tcp_options.port is not None
    standing = DistantProxy(tcp_options.host, tcp_options.port)
    await standing.listen()
    yield standing
    await standing.close()


@pytest.fixture
async def proxied_line(
    state_dir: Path, simulator: Simulator, tcp_options: DatabaseOptions, proxy: Proxy
) -> AsyncIterator[Line]:
    """A line whose database is reached through `proxy`."""
    made = make_line(state_dir, simulator, replace(tcp_options, port=proxy.port))
    await made.start()
    yield made
    with contextlib.suppress(Exception):
        await made.stop()


async def acquainted(line: Line) -> Line:
    """Two companies, acme and bolt, that have exchanged a message each way."""
    await line.pair("acme", str(next(_phones)))
    await line.pair("bolt", str(next(_phones)))
    await line.acquaint("acme", "bolt")
    return line


@pytest.fixture
async def pair_of(line: Line) -> Line:
    """The line with acme and bolt, for one test."""
    return await acquainted(line)


@pytest.fixture(scope="module")
def module_database(postgres_server: EmbeddedServer, migrated_template: str) -> Iterator[DatabaseOptions]:
    """A migrated database for one module's tests."""
    name = f"e2e_{next(_databases)}"
    server = replace(postgres_server.options, dbname="postgres").to_conninfo()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name} template {migrated_template}")
        yield replace(postgres_server.options, dbname=name, statement_timeout_s=3.0)
        connection.execute(f"drop database {name} with (force)")


@contextlib.asynccontextmanager
async def _pair_on(database: DatabaseOptions, **settings: Any) -> AsyncIterator[Line]:
    state, whatsapp = (Path(tempfile.mkdtemp(prefix="sf-")) for _ in range(2))
    simulator = Simulator(whatsapp, node_binary(), bridge_directory())
    await simulator.start()
    made = make_line(state, simulator, database, **settings)
    try:
        await made.start()
        yield await acquainted(made)
    finally:
        with contextlib.suppress(Exception):
            await made.stop()
        await simulator.stop()
        for path in (state, whatsapp):
            shutil.rmtree(path, ignore_errors=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_pair(module_database: DatabaseOptions) -> AsyncIterator[Line]:
    """A line with acme and bolt for all of a module's tests that leave both open; they are marked `shares_loop`."""
    async with _pair_on(module_database) as line:
        yield line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http_pair(module_database: DatabaseOptions) -> AsyncIterator[Line]:
    """The same with the HTTP API at a free port."""
    async with _pair_on(module_database, http="on", http_port=0) as line:
        yield line
