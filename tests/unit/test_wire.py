"""The gateway protocol's connection, over real Unix sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from standfast.errors import CompanyUnknown, ServiceUnavailable
from standfast.sessions.wire import Connection, Limits

SMALL = Limits(frame_bytes=10_000, in_flight=4, unread_bytes=200_000)


class Peer:
    """A handler with a few methods that tests steer."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, Any]] = []
        self.ended = asyncio.Event()
        self.gate = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        if method == "echo":
            return params
        if method == "unknown-company":
            raise CompanyUnknown("no such company", company="acme")
        if method == "defect":
            raise KeyError("secret-value")
        if method == "big":
            return "x" * 50_000
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return None

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        self.notes.append((method, msgspec.json.decode(params)))

    def closed(self, connection: Connection) -> None:
        self.ended.set()


class Line:
    """A server with one handler, and raw connections to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.peer = Peer()
        self.served: list[Connection] = []

    def accept(self) -> Connection:
        self.served.append(Connection(self.peer, SMALL))
        return self.served[-1]

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path), limit=2**20)

    async def client(self) -> Connection:
        _, connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: Connection(Peer()), str(self.path)
        )
        return connection


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    made = Line(tmp_path / "s")
    server = await asyncio.get_running_loop().create_unix_server(made.accept, str(made.path))
    yield made
    made.peer.gate.set()
    server.close()
    for connection in made.served:
        connection.close()
    async with asyncio.timeout(5):
        while any(connection.is_open for connection in made.served):
            await asyncio.sleep(0.01)


async def answer(reader: asyncio.StreamReader) -> Any:
    async with asyncio.timeout(5):
        return json.loads(await reader.readline())


async def test_values_pass_as_raw_json(line: Line) -> None:
    """What stands in params comes back byte for byte, whatever spaces or escapes it has."""
    reader, writer = await line.raw()
    params = '{"a":  {"type":"Buffer","data":"AA=="}, "b": 1.0, "c":"\\u00e9\\/"}'
    writer.write(f'{{"id":5,"method":"echo","params":{params}}}\n'.encode())
    async with asyncio.timeout(5):
        got = await reader.readline()
    assert got == f'{{"id":5,"result":{params}}}\n'.encode()
    writer.close()


async def test_a_frame_may_arrive_in_pieces_and_several_at_once(line: Line) -> None:
    """Framing does not depend on how the stream is cut."""
    reader, writer = await line.raw()
    text = b"".join(b'{"id":%d,"method":"echo","params":%d}\n' % (n, n) for n in range(20))
    for start in range(0, len(text), 7):
        writer.write(text[start : start + 7])
        await writer.drain()
        await asyncio.sleep(0)
    got = [await answer(reader) for _ in range(20)]
    assert sorted(frame["id"] for frame in got) == list(range(20))
    assert all(frame["result"] == frame["id"] for frame in got)
    writer.close()


@pytest.mark.parametrize(
    "bad",
    [
        b"not json\n",
        b"[1,2]\n",
        b'{"id":"x","method":"echo"}\n',
        b'{"id":-1,"method":"echo"}\n',
        b"\xff\xfe\n",
        b"{" * 9000 + b"\n",
    ],
)
async def test_a_malformed_frame_ends_the_connection_with_a_reason(line: Line, bad: bytes) -> None:
    """The client learns why, and the connection is closed."""
    reader, writer = await line.raw()
    writer.write(bad)
    told = await answer(reader)
    assert told["id"] is None
    assert told["error"]["code"] == "protocol"
    async with asyncio.timeout(5):
        assert await reader.read() == b""
        await line.peer.ended.wait()
    writer.close()


@pytest.mark.parametrize("ended", [True, False])
async def test_an_oversized_frame_ends_its_connection_only(line: Line, ended: bool) -> None:
    """Beyond the limit, with or without its end in sight; others go on."""
    other = await line.client()
    reader, writer = await line.raw()
    writer.write(b'{"id":1,"method":"echo","params":"' + b"x" * 20_000 + (b'"}\n' if ended else b""))
    told = await answer(reader)
    assert told["error"]["code"] == "protocol"
    assert "10000 bytes" in told["error"]["message"]
    assert bytes(await other.request("echo", 7, timeout_s=5)) == b"7"
    other.close()
    writer.close()


async def test_no_more_requests_are_served_at_once_than_allowed(line: Line) -> None:
    """Beyond the bound reading pauses; nothing is lost and all are answered later."""
    client = await line.client()
    waiting = [asyncio.create_task(client.request("wait", n, timeout_s=5)) for n in range(50)]
    async with asyncio.timeout(5):
        while line.peer.most_at_once < SMALL.in_flight:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    line.peer.gate.set()
    assert [bytes(result) for result in await asyncio.gather(*waiting)] == [b"null"] * 50
    assert line.peer.most_at_once == SMALL.in_flight
    client.close()


async def test_a_client_that_does_not_read_is_cut_off(line: Line) -> None:
    """Answers are never buffered without bound."""
    _, writer = await line.raw()
    for n in range(100):
        writer.write(b'{"id":%d,"method":"big"}\n' % n)
    async with asyncio.timeout(5):
        await line.peer.ended.wait()
    writer.close()


async def test_errors_keep_their_class_and_defects_keep_their_secrets(line: Line) -> None:
    """Our errors cross with code and facts; a defect is reported without its text."""
    client = await line.client()
    with pytest.raises(CompanyUnknown) as unknown:
        await client.request("unknown-company", {}, timeout_s=5)
    assert unknown.value.facts == {"company": "acme"}
    with pytest.raises(Exception, match="KeyError") as defect:
        await client.request("defect", {}, timeout_s=5)
    assert "secret-value" not in str(defect.value)
    client.close()


async def test_every_request_ends(line: Line) -> None:
    """At its deadline, or with the connection."""
    client = await line.client()
    with pytest.raises(ServiceUnavailable, match=r"within 0\.05 s"):
        await client.request("wait", {}, timeout_s=0.05)
    pending = asyncio.create_task(client.request("wait", {}, timeout_s=5))
    await asyncio.sleep(0.01)
    client.close()
    with pytest.raises(ServiceUnavailable, match="ended"):
        await pending
    with pytest.raises(ServiceUnavailable):
        await client.request("echo", {}, timeout_s=1)


async def test_notifications_need_no_answer(line: Line) -> None:
    """They arrive in order and nothing comes back."""
    client = await line.client()
    client.notify("a", {"n": 1})
    client.notify("b", {"n": 2})
    assert bytes(await client.request("echo", 1, timeout_s=5)) == b"1"
    assert line.peer.notes == [("a", {"n": 1}), ("b", {"n": 2})]
    client.close()
