"""What a node does about companies that another one holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.alert import LoggedAlerts
from standfast.errors import CompanyInUse
from standfast.messaging.mailbox import Mailbox
from standfast.postgres import sessions_table
from standfast.postgres.leases import Leases
from standfast.postgres.pool import Database
from standfast.service import takeover as module
from standfast.service.takeover import Takeover
from standfast.sessions.events import Event, EventBus
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import State
from tests.integration.services import ACME
from tests.integration.vaults import Alerts
from tests.support import until

THIS, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class DatabaseWishes:
    """The part of a roster that a start needs."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def wanted(self) -> list[Any]:
        return await sessions_table.list_wanted(self.database)

    async def want(self, company: Any, wanted: bool) -> None:
        await sessions_table.set_wanted(self.database, company, wanted)

    async def check_known(self, company: Any) -> None:
        return None


@pytest.fixture
async def bus() -> EventBus:
    return EventBus()


@pytest.fixture
async def pool(bus: EventBus, database: Database) -> AsyncIterator[SessionPool]:
    made = SessionPool(DatabaseWishes(database), bus, Mailbox(Path(), bytes(32), LoggedAlerts()))  # type: ignore[arg-type]
    yield made
    await made.close()


@pytest.fixture
async def told() -> Alerts:
    return Alerts()


@pytest.fixture
async def refused(
    bus: EventBus, pool: SessionPool, database: Database, told: Alerts, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """acme is wanted here, the living node `two` holds it, and the session here was refused because of that."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.05)
    await Leases(database).heartbeat(OTHER, "two", 60.0)
    takeover = Takeover(database, pool, THIS, told)
    bus.subscribe(takeover.take)
    await pool.start(ACME)
    error = CompanyInUse("acme is held by the node two", holder="two")
    bus.publish(Event(ACME, "error", {"company": ACME, "kind": "error", "error": error.as_wire()}))
    working = asyncio.create_task(takeover.run())
    yield
    working.cancel()


async def looked_at(database: Database, times: int = 4) -> None:
    """Long enough for several looks."""
    for _ in range(times):
        await database.ping()
        await asyncio.sleep(0.05)


@pytest.mark.usefixtures("refused")
async def test_a_company_is_taken_over_once_its_node_is_dead(
    database: Database, told: Alerts, pool: SessionPool
) -> None:
    """Not while it lives, however long; but soon after its lease."""
    await looked_at(database)
    assert told.names() == []
    await Leases(database).heartbeat(OTHER, "two", 0.01)
    await until(lambda: told.names() == ["taken_over"])
    session = pool.session(ACME)
    assert session is not None
    assert session.wanted


async def test_what_was_given_away_comes_back_when_its_node_dies(
    database: Database, pool: SessionPool, told: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that was handed over is nobody's wish here, until the node that has it is dead."""
    monkeypatch.setattr(module, "INTERVAL_S", 0.02)
    await Leases(database).heartbeat(OTHER, "two", 60.0)
    await sessions_table.set_wanted(database, ACME, True)
    takeover = Takeover(database, pool, THIS, told)
    working = asyncio.create_task(takeover.run())
    takeover.expect(ACME, "two")
    await looked_at(database)
    assert told.names() == []
    await Leases(database).heartbeat(OTHER, "two", 0.01)
    await until(lambda: told.names() == ["taken_over"])
    working.cancel()


@pytest.mark.usefixtures("refused")
async def test_what_was_stopped_at_the_other_node_is_not_taken_over(database: Database, told: Alerts) -> None:
    """Its operator did not want it any more before the node ended."""
    await sessions_table.set_wanted(database, ACME, False)
    await Leases(database).heartbeat(OTHER, "two", 0.01)
    await looked_at(database)
    assert told.names() == []


@pytest.mark.usefixtures("refused")
async def test_a_session_that_was_replaced_is_not_taken_back(
    database: Database, told: Alerts, pool: SessionPool
) -> None:
    """A session that another client evicted stays as it is until an operator says otherwise."""
    session = pool.session(ACME)
    assert session is not None
    session.enter(State.REPLACED, "another client logged in")
    await Leases(database).heartbeat(OTHER, "two", 0.01)
    await looked_at(database)
    assert told.names() == []
    assert session.state is State.REPLACED


async def test_a_node_of_the_same_name_is_not_this_one(
    database: Database, pool: SessionPool, bus: EventBus, told: Alerts
) -> None:
    """Two machines may both be called 'localhost': the living one is told by its identity."""
    for node in (THIS, OTHER):
        await Leases(database, node).heartbeat(node, "localhost", 60.0)
    takeover = Takeover(database, pool, THIS, told)
    await pool.start(ACME)
    error = CompanyInUse("held", holder="localhost")
    takeover.take(Event(ACME, "error", {"error": error.as_wire()}))
    await takeover._look()
    assert told.names() == []
    await Leases(database, OTHER).heartbeat(OTHER, "localhost", 0.001)

    async def is_taken() -> bool:
        await takeover._look()
        return told.names() == ["taken_over"]

    await until(is_taken)
