"""A vault that leaves PostgreSQL alone by decision, and comes back to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.errors import DatabaseUnavailable
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from tests.integration.vaults import ACME, QUICK, Load, in_postgres, node, pair
from tests.support import until

ON_FILES = DatabaseUnavailable("this node stands on files", cause="on_files")
_NODES = Statement("test.nodes", "select alive_until > now() from standfast_nodes")
_FOREIGN = Statement(
    "test.foreign", "update standfast_identity set id = gen_random_uuid() returning id::text"
)
_OURS = Statement("test.ours", "update standfast_identity set id = $1::uuid")


@pytest.fixture
async def paired(database_options: DatabaseOptions, database: Database) -> Database:
    await pair(database_options)
    return database


async def test_postgresql_is_left_alone_until_the_decision_is_taken_back(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """Nothing is written there though it answers, and all of it is there once the vault has rejoined."""
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        one.vault.detach(ON_FILES)
        before = await in_postgres(database_options)
        async with Load(one.vault) as load:
            await until(lambda: one.vault.outage.answered is True)
            await load.goes_on(50)
        assert one.vault.outage.state == "outage"
        assert await in_postgres(database_options) == before
        assert "outage_began" not in one.alerts.names()
        one.vault.rejoin()
        await one.in_state("online")
    assert await in_postgres(database_options) == before | load.written


async def test_it_opens_without_a_limit_and_its_leases_stay_alive(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """A restart long after the grace period opens from the replica; no other node may take the company meanwhile, nor
    while this one is stopped for a moment."""
    options = replace(QUICK, grace_s=0.0, read_only_cache=True)
    async with node(tmp_path, database_options, options) as one:
        await one.vault.open(ACME)
        one.vault.detach(ON_FILES)
        await one.vault.set_keys(ACME, {"session": {"first": b"1"}})
    assert await paired.fetch(_NODES) == [(True,)]
    async with node(tmp_path, database_options, options, detached=ON_FILES) as one:
        assert one.vault.outage.state == "outage"
        assert await one.vault.open(ACME)
        assert await one.vault.get_keys(ACME, "session", ["first"]) == {"first": b"1"}
        assert one.alerts.names() == []
        with pytest.raises(DatabaseUnavailable, match="stands on files"):
            await one.vault.remove(ACME)


async def test_another_database_bars_nothing_meanwhile(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """What answers after a total loss is another database: sessions go on, and nothing begins anew."""
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        ours = one.vault.replica.database
        await paired.fetch(_FOREIGN)
        await until(lambda: one.vault.held.barred is not None)
        one.vault.detach(ON_FILES)
        one.vault.release(ACME)
        await until(lambda: one.vault.outage.answered is False)
        await asyncio.sleep(0.3)
        assert await one.vault.open(ACME)
        assert one.vault.replica.database == ours
        await paired.fetch(_OURS, [ours])
        one.vault.rejoin()
        await one.in_state("online")
