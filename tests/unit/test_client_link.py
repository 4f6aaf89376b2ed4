"""A client's connection and its live events, over a real Unix socket whose other end a test steers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from standfast.errors import ProtocolError, ServiceUnavailable
from standfast.service import link, streams
from standfast.service.client import Client
from standfast.sessions.wire import Connection


class Service:
    """Answers what operators ask with nothing, once `is_answering` is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.asked: list[str] = []
        self.is_answering = asyncio.Event()
        self.is_answering.set()
        self.refusal: ProtocolError | None = None
        self._server: asyncio.Server | None = None

    def accept(self) -> Connection:
        self.connections.append(Connection(self))
        return self.connections[-1]

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_unix_server(self.accept, str(self.path))

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.close()

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        self.asked.append(method)
        await self.is_answering.wait()
        if self.refusal is not None:
            raise self.refusal
        return [] if method == "sessions.list" else None

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def tell(self, count: int, company: str = "acme") -> None:
        for n in range(count):
            self.connections[-1].notify("session.event", {"company": company, "kind": "receipt", "number": n})


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path / "s")
    await made.start()
    yield made
    made.is_answering.set()
    made.stop()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    made = Client(service.path)
    yield made
    await made.close()


async def test_calls_at_once_share_a_connection(service: Service, client: Client) -> None:
    """The first of them connects and the others wait for that."""
    await asyncio.gather(*(client.sessions() for _ in range(5)))
    assert len(service.connections) == 1
    assert service.asked.count("hello") == 1


async def test_the_next_call_connects_again(service: Service, client: Client) -> None:
    """What was under way when the connection ended fails; what is asked later does not."""
    await client.sessions()
    service.is_answering.clear()
    under_way = asyncio.create_task(client.sessions())
    while service.asked.count("sessions.list") < 2:
        await asyncio.sleep(0.001)
    service.connections[0].close()
    with pytest.raises(ServiceUnavailable, match="before the answer came"):
        await under_way
    service.is_answering.set()
    assert await client.sessions() == []
    assert len(service.connections) == 2


async def test_a_service_that_says_nothing(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes connections and does not answer is as good as none: known within the time to connect."""
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", 0.05)
    service.is_answering.clear()
    with pytest.raises(ServiceUnavailable, match=r"no answer to hello within 0\.05 s"):
        await client.sessions()


async def test_a_service_that_refuses(service: Service, client: Client) -> None:
    """Its reason is the caller's error, and the next call asks anew."""
    service.refusal = ProtocolError("another version of the protocol")
    with pytest.raises(ProtocolError, match="another version"):
        await client.sessions()
    service.refusal = None
    assert await client.sessions() == []


async def test_a_reader_that_falls_behind_is_told(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets what was kept for it, then an error: never a stream with a hole. Others go on."""
    monkeypatch.setattr(streams, "EVENTS_KEPT", 5)
    async with client.events() as slow, client.events("bolt") as other:
        service.tell(8)
        service.tell(1, "bolt")
        assert (await anext(other)).company == "bolt"
        assert [(await anext(slow)).number for _ in range(5)] == [0, 1, 2, 3, 4]
        for _ in range(2):
            with pytest.raises(ServiceUnavailable, match="fell behind"):
                await anext(slow)


async def test_a_stream_that_nobody_reads_keeps_nothing(service: Service, client: Client) -> None:
    """An iteration that was left without being closed is forgotten with its last reference."""
    await client.sessions()
    telling = asyncio.get_running_loop().call_later(0.01, lambda: service.tell(1))
    async for _ in client.events():
        break
    telling.cancel()
    gc.collect()
    assert not client._link._listeners
