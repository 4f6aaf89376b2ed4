"""The real gateway: who is admitted, who is cut off, and that the rest go on."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from standfast.sessions.session import State
from tests.e2e.conftest import Line, shares_loop

REPLY_TIMEOUT_S = 10.0


@dataclass
class Client:
    """A connection to the gateway, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer's frame: a result or an error."""
        await self.write(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
        return await self.frame()

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def frame(self) -> dict[str, Any]:
        line = await asyncio.wait_for(self.reader.readline(), REPLY_TIMEOUT_S)
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def is_cut_off(self) -> bool:
        """Whether the gateway ends the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(1), REPLY_TIMEOUT_S) == b""
        except ConnectionError:
            return True

    async def hello(self, role: str = "auth-state", **fields: Any) -> dict[str, Any]:
        return await self.ask("hello", **{"protocol": 1, "role": role, "client": "test/1", **fields})


@asynccontextmanager
async def client_of(socket: Path) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def socket_of(line: Line) -> Path:
    return line.service.gateway.path


@shares_loop
async def test_a_company_has_one_holder(shared_pair: Line) -> None:
    """Who holds a company keeps it: a session is refused while a client has it, and a client while a session has it."""
    line = shared_pair
    async with client_of(socket_of(line)) as client:
        await client.hello()
        refused = await client.ask("auth.open", company="acme")
        assert refused["error"]["code"] == "company_in_use"
        assert "role host" in refused["error"]["message"]

        await line.service.pool.stop("acme")
        assert "result" in await client.ask("auth.open", company="acme")
        session = await line.service.pool.start("acme")
        await line.state("acme", State.CLOSED)
        assert session.reason == "company 'acme' is held by another client (role auth-state)"
        assert (
            session.next_step == "Stop the other holder first; two holders of one company evict each other."
        )
    # The end of its connection gives the company back.
    await line.service.pool.start("acme")
    await line.state("acme", State.OPEN)


@shares_loop
async def test_who_breaks_the_protocol_is_cut_off_alone(shared_pair: Line) -> None:
    """Frames that are malformed or too large end the connection that sent them, and the chat goes on meanwhile."""
    line, since = shared_pair, len(shared_pair.heard)
    texts = [f"undisturbed {n}" for n in range(60)]

    async def chat() -> None:
        for text in texts:
            await line.send("acme", "bolt", text)

    chatting = asyncio.create_task(chat())
    oversized = b'{"id":2,"method":"keys.set","params":"' + b"x" * (16 * 1024 * 1024 + 1)
    for nonsense in (b"{nonsense\n", b"\xff\xfe\n", b"[]\n", b'{"id":-1,"method":"hello"}\n', oversized):
        async with client_of(socket_of(line)) as client, client_of(socket_of(line)) as bystander:
            await client.hello()
            await bystander.hello(role="operator")
            await client.write(nonsense)
            refusal = await client.frame()
            assert refusal["id"] is None
            assert refusal["error"]["code"] == "protocol"
            assert await client.is_cut_off()
            assert "result" in await bystander.ask("sessions.list")
    await asyncio.wait_for(chatting, 20)
    await line.received("bolt", texts)
    assert line.texts("bolt", since) == texts
    assert line.service.engine.restarts == 0


@shares_loop
async def test_only_who_introduces_itself_rightly_is_admitted(shared_pair: Line) -> None:
    """Another protocol version, an unknown role, a host with a wrong token or no hello at all: refused and cut off."""
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("hello", {"protocol": 2, "role": "operator"}, "speaks protocol 1"),
        ("hello", {"protocol": 1, "role": "king"}, "the role must be"),
        ("hello", {"protocol": 1, "role": "host", "token": "guessed"}, "token"),
        ("hello", {"protocol": 1, "role": "host"}, "token"),
        ("hello", {"role": "operator"}, "wrong params"),
        ("sessions.list", {}, "must be 'hello'"),
    ]
    for method, params, message in wrong:
        async with client_of(socket_of(shared_pair)) as client:
            error = (await client.ask(method, **params))["error"]
            assert error["code"] == "protocol"
            assert message in error["message"]
            assert "guessed" not in json.dumps(error)
            assert await client.is_cut_off()
    assert shared_pair.service.engine.is_ready


@shares_loop
async def test_roles_have_their_own_methods(shared_pair: Line) -> None:
    """An operator is not given auth state, and a bot does not drive sessions."""
    async with client_of(socket_of(shared_pair)) as client:
        await client.hello(role="operator")
        for method in ("auth.open", "keys.get", "creds.save", "no.such.method"):
            assert (await client.ask(method, company="acme"))["error"]["code"] == "protocol"
    async with client_of(socket_of(shared_pair)) as client:
        await client.hello(role="auth-state")
        for method in ("sessions.list", "messages.send", "session.start"):
            assert (await client.ask(method))["error"]["code"] == "protocol"
        unheld = await client.ask("keys.get", company="acme", type="session", ids=["1"])
        assert unheld["error"]["code"] == "company_in_use"


async def test_the_socket_is_for_its_owner_alone(line: Line) -> None:
    """The socket's mode is 0600, in a directory 0700, and it goes with the service."""
    path = socket_of(line)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await line.stop()
    assert not path.exists()


@shares_loop
async def test_who_says_nothing_is_cut_off(shared_pair: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a hello is ended when its time is over; one that said hello may be silent."""
    monkeypatch.setattr("standfast.sessions.gateway.HELLO_TIMEOUT_S", 0.2)
    async with client_of(socket_of(shared_pair)) as polite, client_of(socket_of(shared_pair)) as silent:
        await polite.hello(role="operator")
        assert await silent.is_cut_off()
        assert "result" in await polite.ask("sessions.list")
