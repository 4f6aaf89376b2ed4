"""The vault before a real PostgreSQL: what it keeps, and who may write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, CompanyUnknown, DatabaseUnavailable, UsageError
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from tests.integration.vaults import ACME, QUICK, node
from tests.support import made_up_creds, until


@pytest.fixture
async def paired(database: Database) -> Database:
    """A database with one company, acme, that has three sessions."""
    keys = {"session": {str(n): b'{"n":%d}' % n for n in range(3)}}
    await PostgresAuthStore(database).install(ACME, made_up_creds(), keys)
    return database


async def in_postgres(database: Database, company: Company = ACME) -> dict[str, dict[str, bytes]]:
    snapshot = await PostgresAuthStore(database).snapshot(company)
    return {} if snapshot is None else snapshot.keys


async def test_reads_what_postgres_had_and_brings_it_what_is_written(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """Keys come from PostgreSQL once; what is set, deleted and saved arrives there."""
    async with node(tmp_path, database_options) as one:
        vault = one.vault
        assert await vault.open(ACME) is not None
        assert (await vault.get_keys(ACME, "session", ["0", "9"])) == {"0": b'{"n": 0}'}
        await vault.set_keys(ACME, {"session": {"0": None, "9": b'{"n":9}'}, "sender-key": {"g": b'{"k":1}'}})
        assert await vault.get_keys(ACME, "session", ["0", "9"]) == {"9": b'{"n":9}'}
        await vault.save_creds(ACME, made_up_creds(nextPreKeyId=77))
        await until(lambda: not vault.holdings()[0].pending)
    assert await in_postgres(paired) == {
        "session": {"1": b'{"n": 1}', "2": b'{"n": 2}', "9": b'{"n": 9}'},
        "sender-key": {"g": b'{"k": 1}'},
    }
    stored = await PostgresAuthStore(paired).load_creds(ACME)
    assert stored is not None
    assert b'"nextPreKeyId": 77' in stored


async def test_closing_leaves_nothing_behind_in_the_journal(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """Closing waits for PostgreSQL, gives leases back and needs no download when it opens again."""
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        for n in range(50):
            await one.vault.set_keys(ACME, {"session": {"x": b"%d" % n}})
    assert (await in_postgres(paired))["session"]["x"] == b"49"
    async with node(tmp_path, database_options) as one:
        record = one.vault.replica.record(ACME)
        assert record is not None
        assert record.complete
        assert record.journal_batches == 0
        await one.vault.open(ACME)
        assert await one.vault.get_keys(ACME, "session", ["x"]) == {"x": b"49"}


async def test_an_unknown_company_is_an_error_and_leaves_no_row(
    tmp_path: Path, database_options: DatabaseOptions, database: Database
) -> None:
    """Without a pairing nothing is created, neither here nor in PostgreSQL."""
    async with node(tmp_path, database_options) as one:
        with pytest.raises(CompanyUnknown):
            await one.vault.open(Company("nobody"))
        assert one.vault.replica.record(Company("nobody")) is None
    async with database.transaction("count", 5.0) as connection:
        cursor = await connection.execute("select count(*) from standfast_writers")
        row = await cursor.fetchone()
    assert row == (0,)


async def test_a_pairing_creates_the_company(
    tmp_path: Path, database_options: DatabaseOptions, database: Database
) -> None:
    """Creds are minted once; PostgreSQL has them before they are acknowledged."""
    async with node(tmp_path, database_options) as one:
        assert await one.vault.open(ACME, pair=True) is None
        await one.vault.set_keys(ACME, {"pre-key": {"1": b"{}"}})
        await one.vault.create_creds(ACME, made_up_creds())
        assert await PostgresAuthStore(database).load_creds(ACME) is not None
        with pytest.raises(CompanyInUse):
            await one.vault.create_creds(ACME, made_up_creds(b"\x01" * 32))
        with pytest.raises(CompanyInUse):
            await one.vault.save_creds(ACME, made_up_creds(b"\x01" * 32))
        await one.vault.save_creds(ACME, made_up_creds(registered=True))
    assert await in_postgres(database) == {"pre-key": {"1": b"{}"}}


async def test_a_second_node_is_refused_while_the_first_lives(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """And gets the company, with the first one's last write, once that has given it back."""
    two_options = replace(QUICK, node_name="two")
    async with node(tmp_path / "two", database_options, two_options) as two:
        async with node(tmp_path / "one", database_options) as one:
            await one.vault.open(ACME)
            with pytest.raises(CompanyInUse, match="node one"):
                await two.vault.open(ACME)
            await one.vault.set_keys(ACME, {"session": {"last": b"1"}})
        assert await two.vault.open(ACME) is not None
        assert await two.vault.get_keys(ACME, "session", ["last"]) == {"last": b"1"}
        await two.vault.set_keys(ACME, {"session": {"last": b"2"}})
    async with node(tmp_path / "one", database_options) as one:
        await one.vault.open(ACME)
        assert await one.vault.get_keys(ACME, "session", ["last"]) == {"last": b"2"}


async def test_what_jsonb_cannot_hold_is_refused(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """Before it is journaled: it would hold up everything behind it."""
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        for value in (b'"\\u0000"', b'"\\ud800"'):
            with pytest.raises(UsageError):
                await one.vault.set_keys(ACME, {"session": {"bad": value}})
        await one.vault.set_keys(ACME, {"session": {"good": b'"\\ud83d\\ude00 \\\\u0000"'}})
        await until(lambda: not one.vault.holdings()[0].pending)


async def test_remote_durability_waits_for_postgres(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """With STANDFAST_DURABILITY=remote a write that was acknowledged is in PostgreSQL."""
    async with node(tmp_path, database_options, replace(QUICK, durability="remote")) as one:
        await one.vault.open(ACME)
        for n in range(5):
            await one.vault.set_keys(ACME, {"session": {"x": b"%d" % n}})
            assert (await in_postgres(paired))["session"]["x"] == b"%d" % n


async def test_remote_durability_holds_through_a_suspicion(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """A heartbeat that is late is no reason to acknowledge what PostgreSQL does not have."""
    async with node(tmp_path, database_options, replace(QUICK, durability="remote")) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        one.vault.outage.suspect(DatabaseUnavailable("slow", cause="timeout"))
        await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
        assert one.vault.holdings()[0].pending == 0


async def test_removing_a_company(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """It is gone here and there; while it is open it cannot be removed."""
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        with pytest.raises(CompanyInUse):
            await one.vault.remove(ACME)
        one.vault.release(ACME)
        await until(lambda: not one.vault.holdings())
        assert await one.vault.remove(ACME)
        assert one.vault.replica.record(ACME) is None
        assert not await one.vault.remove(ACME)
        assert await one.vault.open(ACME, pair=True) is None
    assert await in_postgres(paired) == {}
