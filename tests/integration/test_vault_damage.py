"""The vault's file is damaged, while it is in use or not, with PostgreSQL there or away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import DatabaseUnavailable, JournalUnwritable, StandfastError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.vault.vault import Vault
from tests.integration.vaults import ACME, QUICK, in_postgres, node, pair
from tests.support import Proxy, made_up_creds, until

_FLIP = (
    "update {table} set {column} = cast(substr({column}, 1, 20) || x'00' || substr({column}, 22) as blob)"
    " where {where}"
)
SLOW = replace(QUICK, gather_s=60.0)  # what is written lies in the journal for a while


@pytest.fixture
async def proxy(tcp_options: DatabaseOptions) -> AsyncIterator[Proxy]:
    await pair(tcp_options)
    async with Proxy.before("127.0.0.1", tcp_options.port or 0) as standing:
        yield standing


@pytest.fixture
def far(tcp_options: DatabaseOptions, proxy: Proxy) -> DatabaseOptions:
    return replace(tcp_options, port=proxy.port)


def flip(directory: Path, table: str, column: str, where: str) -> None:
    """One byte of a sealed value becomes another; the file's structure stays sound."""
    connection = sqlite3.connect(directory / "vault.db")
    try:
        assert connection.execute(_FLIP.format(table=table, column=column, where=where)).rowcount == 1
        connection.commit()
    finally:
        connection.close()


def break_first(directory: Path) -> None:
    flip(directory, "replica", "value", "type = 'session' and id = 'first'")


def break_creds(directory: Path) -> None:
    flip(directory, "replica", "value", "type = '' and id = ''")


def break_all(directory: Path) -> None:
    """Nothing of the file can be read any more."""
    file = directory / "vault.db"
    file.write_bytes(bytes(file.stat().st_size))
    file.with_name("vault.db-wal").unlink(missing_ok=True)


async def write(vault: Vault, name: str, timeout_s: float = 5.0) -> None:
    """As a client does it: again while the vault says that it cannot be made durable."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                await vault.set_keys(ACME, {"session": {name: b"1"}})
            except JournalUnwritable:
                await asyncio.sleep(0.01)
            else:
                return


async def test_damage_under_a_session_heals_by_itself(
    tmp_path: Path, far: DatabaseOptions, tcp_options: DatabaseOptions
) -> None:
    """A read of what is damaged waits for PostgreSQL's copy; what was acknowledged, delivered or not, stays."""
    async with node(tmp_path, far, SLOW) as one:
        vault = one.vault
        await vault.open(ACME)
        await one.in_state("online")
        await write(vault, "before")
        break_first(tmp_path)
        assert await vault.get_keys(ACME, "session", ["first", "before"]) == {"first": b"0", "before": b"1"}
        await write(vault, "after")
        found = await vault.get_keys(ACME, "session", ["first", "before", "after"])
        assert found == {"first": b"0", "before": b"1", "after": b"1"}
        (alert,) = one.alerts.taken
        assert (alert.name, alert.facts["batches_lost"]) == ("replica_corrupt", 0)
    assert await in_postgres(tcp_options) == {"first": b"0", "before": b"1", "after": b"1"}


async def test_damage_of_one_company_does_not_hold_up_another(
    tmp_path: Path, far: DatabaseOptions, tcp_options: DatabaseOptions
) -> None:
    """What was to be delivered while the file was rebuilt is delivered then, without another write."""
    bolt = Company("bolt")
    async with Database(tcp_options) as database:
        await PostgresAuthStore(database).install(
            bolt, made_up_creds(b"\x05" * 32), {"session": {"second": b"0"}}
        )
    async with node(tmp_path, far) as one:
        for company in (ACME, bolt):
            await one.vault.open(company)
        await one.in_state("online")
        flip(tmp_path, "replica", "value", "type = 'session' and id = 'second'")
        await write(one.vault, "last")
        assert await one.vault.get_keys(bolt, "session", ["second"]) == {"second": b"0"}
        assert one.alerts.taken[0].facts["companies"] == 1
        await until(lambda: has(tcp_options, "last"))
        assert one.alerts.names() == ["replica_corrupt"]


async def has(options: DatabaseOptions, name: str) -> bool:
    return name in await in_postgres(options)


async def test_damage_under_a_session_in_an_outage_is_told_with_both(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, tcp_options: DatabaseOptions
) -> None:
    """A read is refused, never answered with an absence, until PostgreSQL is back; nothing acknowledged is lost."""
    async with node(tmp_path, far) as one:
        vault = one.vault
        await vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
        await one.in_state("outage")
        await write(vault, "before")
        break_first(tmp_path)
        for key_id in ("first", "before", "never"):
            with pytest.raises(
                DatabaseUnavailable, match="replica of acme was damaged, and PostgreSQL is away"
            ):
                await vault.get_keys(ACME, "session", [key_id])
        await write(vault, "after")
        await proxy.listen()
        await one.in_state("online")
        found = await vault.get_keys(ACME, "session", ["first", "before", "after", "never"])
        assert found == {"first": b"0", "before": b"1", "after": b"1"}
        assert one.alerts.names() == ["outage_began", "replica_corrupt", "restored"]
    assert await in_postgres(tcp_options) == {"first": b"0", "before": b"1", "after": b"1"}


@pytest.mark.parametrize("damage", [break_first, break_creds, break_all])
async def test_a_file_that_was_damaged_meanwhile_is_rebuilt(
    tmp_path: Path, far: DatabaseOptions, damage: object
) -> None:
    """With PostgreSQL there a restart notices it, tells it, and everything is as it was."""
    async with node(tmp_path, far) as one:
        await one.vault.open(ACME)
        await write(one.vault, "before")
    assert callable(damage)
    damage(tmp_path)
    async with node(tmp_path, far) as one:
        assert await one.vault.open(ACME) is not None
        found = await one.vault.get_keys(ACME, "session", ["first", "before", "never"])
        assert found == {"first": b"0", "before": b"1"}
        assert one.alerts.names() == ["replica_corrupt"]
        await write(one.vault, "after")


async def test_what_the_journal_held_is_delivered_though_the_replica_was_damaged(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, tcp_options: DatabaseOptions
) -> None:
    """PostgreSQL has never seen it: it is carried over into the new file."""
    async with node(tmp_path, far) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
        await one.in_state("outage")
        await write(one.vault, "before")
    break_first(tmp_path)
    await proxy.listen()
    async with node(tmp_path, far) as one:
        await one.vault.open(ACME)
        found = await one.vault.get_keys(ACME, "session", ["first", "before"])
        assert found == {"first": b"0", "before": b"1"}
    assert await in_postgres(tcp_options) == {"first": b"0", "before": b"1"}


async def test_a_file_that_was_damaged_meanwhile_and_no_postgres_are_both_told(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy
) -> None:
    """The company does not open, and nothing is made up; with PostgreSQL back it does."""
    async with node(tmp_path, far) as one:
        await one.vault.open(ACME)
    break_all(tmp_path)
    await proxy.close()
    async with node(tmp_path, far) as one:
        for pairing in (False, True):
            with pytest.raises(StandfastError) as refused:
                await one.vault.open(ACME, pair=pairing)
            assert isinstance(refused.value, DatabaseUnavailable)
            for part in ("PostgreSQL is away", "was damaged", "moved aside"):
                assert part in refused.value.message
        await proxy.listen()
        await until(lambda: one.vault.outage.state == "online")
        assert await one.vault.open(ACME) is not None
        assert await one.vault.get_keys(ACME, "session", ["first"]) == {"first": b"0"}
