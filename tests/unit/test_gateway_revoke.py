"""What the gateway does when a company is lost while a client holds it: real sockets, a store in memory."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from standfast.authstate.company import Company
from standfast.authstate.store import KeyBatch
from standfast.errors import CompanyInUse, StandfastError
from standfast.sessions.gateway import Gateway
from standfast.sessions.wire import Connection
from tests.support import made_up_creds, until

ACME = Company("acme")
TAKEN = CompanyInUse(
    "this node no longer owns acme: the node other took it", next_step="Stop the other owner."
)


class MemoryStore:
    """Creds that are always there; tells who was released. `opening` holds up an opening while it is cleared."""

    def __init__(self) -> None:
        self.released: list[Company] = []
        self.batches: list[KeyBatch] = []
        self.opening = asyncio.Event()
        self.opening.set()
        self.opens = 0

    async def open(self, company: Company, *, pair: bool = False) -> bytes | None:
        self.opens += 1
        await self.opening.wait()
        return made_up_creds()

    def release(self, company: Company) -> None:
        self.released.append(company)

    async def load_creds(self, company: Company) -> bytes | None:
        return made_up_creds()

    async def create_creds(self, company: Company, creds: bytes) -> None: ...

    async def save_creds(self, company: Company, creds: bytes) -> None: ...

    async def get_keys(self, company: Company, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        return {}

    async def set_keys(self, company: Company, batch: KeyBatch) -> None:
        self.batches.append(batch)

    async def clear_keys(self, company: Company) -> int:
        return 0

    async def remove(self, company: Company) -> bool:
        return False


class Client:
    """A client of the gateway that remembers what it was told; see `standfast.sessions.wire.Handler`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.is_closed = False
        self.connection = Connection(self)

    async def handle(self, connection: Connection, method: str, params: msgspec.Raw) -> Any:
        raise AssertionError(f"the gateway asked for {method}")

    def notified(self, connection: Connection, method: str, params: msgspec.Raw) -> None:
        self.told.append((method, json.loads(bytes(params))))

    def closed(self, connection: Connection) -> None:
        self.is_closed = True

    async def ask(self, method: str, **params: Any) -> Any:
        return json.loads(bytes(await self.connection.request(method, params, timeout_s=5)))

    async def refused(self, method: str, **params: Any) -> StandfastError:
        with pytest.raises(StandfastError) as caught:
            await self.ask(method, **params)
        return caught.value


class World:
    """A gateway over a store in memory."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore()
        self.gateway = Gateway(directory / "g.sock", self.store, "standfast/test")
        self.clients: list[Client] = []

    async def client(self) -> Client:
        made = Client()
        self.clients.append(made)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: made.connection, str(self.gateway.path))
        await made.ask("hello", protocol=1, role="auth-state", client="test/1")
        return made


@pytest.fixture
async def world() -> AsyncIterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="sf-"))
    made = World(directory)
    await made.gateway.start()
    yield made
    for client in made.clients:
        client.connection.close()
    await made.gateway.stop()
    shutil.rmtree(directory, ignore_errors=True)


async def test_the_holder_is_told_and_hears_the_reason_from_then_on(world: World) -> None:
    """A revoked company is answered to nobody: its former holder is told once, and every call of it gets the reason."""
    holder = await world.client()
    await holder.ask("auth.open", company="acme")
    await holder.ask("auth.open", company="bolt")
    assert world.gateway.revoke(ACME, TAKEN) == "auth-state"
    await until(lambda: bool(holder.told))
    assert holder.told == [("auth.lost", {"company": "acme", "error": TAKEN.as_wire()})]
    assert world.store.released == [ACME]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("keys.get", {"type": "session", "ids": ["1"]}),
        ("keys.set", {"data": {"session": {"1": 1}}}),
        ("creds.save", {"creds": {}}),
        ("creds.create", {"creds": {}}),
        ("keys.clear", {}),
    ]
    for method, params in calls:
        error = await holder.refused(method, company="acme", **params)
        assert isinstance(error, CompanyInUse)
        assert error.message == TAKEN.message
    assert world.store.batches == []
    assert await holder.ask("keys.get", company="bolt", type="session", ids=["1"]) == {}


async def test_a_company_that_was_lost_can_be_opened_again(world: World) -> None:
    """Whether it may be opened is the store's to say, for its former holder and for another one alike."""
    first, second = await world.client(), await world.client()
    await first.ask("auth.open", company="acme")
    world.gateway.revoke(ACME, TAKEN)
    await second.ask("auth.open", company="acme")
    # What the former holder still does, its end included, is no business of the new one.
    await first.ask("auth.close", company="acme")
    first.connection.close()
    await until(lambda: first.is_closed)
    await second.ask("keys.set", company="acme", data={"session": {"1": 1}})
    assert world.store.released == [ACME]
    await second.ask("auth.close", company="acme")
    await second.ask("auth.open", company="acme")
    world.gateway.revoke(ACME, TAKEN)
    await second.ask("auth.open", company="acme")
    assert await second.ask("keys.get", company="acme", type="session", ids=["1"]) == {}


async def test_a_company_that_is_lost_while_it_is_opened_is_not_open(world: World) -> None:
    """The answer of an opening that the loss has overtaken is the loss."""
    client = await world.client()
    world.store.opening.clear()
    opening = asyncio.ensure_future(client.refused("auth.open", company="acme"))
    await until(lambda: world.store.opens == 1)
    world.gateway.revoke(ACME, TAKEN)
    world.store.opening.set()
    assert (await opening).message == TAKEN.message
    assert world.gateway.holder_role(ACME) is None


async def test_a_company_that_nobody_holds_is_nobodys_to_lose(world: World) -> None:
    """Revoking it tells nobody and changes nothing."""
    client = await world.client()
    assert world.gateway.revoke(ACME, TAKEN) is None
    await client.ask("auth.open", company="acme")
    assert client.told == []


async def test_a_client_hears_that_another_one_was_there_since(world: World) -> None:
    """Whoever opens a company again learns whether somebody else held it meanwhile."""

    async def opened_by(client: str) -> bool:
        connection = await world.client()
        answer = await connection.ask("auth.open", company="acme", client=client)
        await connection.ask("auth.close", company="acme")
        return bool(answer["overtaken"])

    assert [await opened_by(client) for client in ("a", "a", "b", "a", "a")] == [
        False,
        False,
        True,
        True,
        False,
    ]
