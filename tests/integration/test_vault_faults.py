"""Whatever befalls PostgreSQL: sessions do not wait, the outage is told once, and afterwards everything is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from tests.integration.own_server import OwnServer
from tests.integration.vaults import ACME, Load, in_postgres, node, pair
from tests.support import apart, made_up_creds, until

NOTICED_S = 6.0  # five seconds, and what a busy machine adds
WAITING_S = 0.5
FAULTS = {
    "read_only": {"read_only"},
    "another_password": {"password"},
    "shut_out": {"access"},
    "no_slot": {"too_many_connections"},
    "rights_gone": {"rights"},
    "stopped": {"timeout"},
    "killed": {"refused"},
    "starting": {"starting"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """One for all of this module's tests, each of which has a database of its own."""
    own = OwnServer(tmp_path_factory.mktemp("own"))
    apart(own.start())
    yield own
    apart(own.stop())


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_postgres_is_bridged(tmp_path: Path, server: OwnServer, fault: str) -> None:
    """It is an outage within seconds, reads and writes go on without waiting, and all of it arrives afterwards."""
    options = server.new_database()
    await pair(options)
    async with node(tmp_path, server.as_node(options)) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        async with Load(one.vault) as load:
            async with getattr(server, fault)():
                await one.in_state("outage", NOTICED_S)
                cause = one.vault.outage.cause
                assert cause is not None
                await until(lambda: one.cause() in FAULTS[fault])
                await load.goes_on()
            await one.in_state("online")
            await load.goes_on()
        await until(lambda: not one.vault.holdings()[0].pending)
        assert one.alerts.names() == ["outage_began", "restored"]
        assert load.slowest_s < WAITING_S
    assert await in_postgres(options) == {"first": b"0"} | load.written


async def test_many_companies_are_one_alert(tmp_path: Path, server: OwnServer) -> None:
    """What concerns the account is told once, not once for each company."""
    options = server.new_database()
    companies = [Company(f"company-{n}") for n in range(20)]
    async with Database(options) as database:
        for number, company in enumerate(companies):
            await PostgresAuthStore(database).install(company, made_up_creds(bytes([number] * 32)), {})
    async with node(tmp_path, server.as_node(options)) as one:
        await one.in_state("online")
        await asyncio.gather(*(one.vault.open(company) for company in companies))
        async with server.rights_gone():
            for company in companies:
                await one.vault.set_keys(company, {"session": {"x": b"1"}})
            await one.in_state("outage", NOTICED_S)
        await one.in_state("online")
        assert not any(holding.pending for holding in one.vault.holdings())
        assert one.alerts.names() == ["outage_began", "restored"]
        assert one.alerts.named("restored")[0].facts["batches_replayed"] == len(companies)
