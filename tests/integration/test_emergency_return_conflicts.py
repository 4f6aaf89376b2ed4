"""Where both moved on: an operator decides, and what loses is kept."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, EmergencyRefused
from standfast.jobs.emergency.comparison import Wish
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.putting_back import Seen
from standfast.postgres.store import PostgresAuthStore
from standfast.vault.returning import Returning
from tests.integration.returns import looked, on_files, returned, sessions, stopped_on_files, writing
from tests.integration.services import ACME, running, settings_of
from tests.support import made_up_creds, until

KEYS = {"session": {"a": b'{"n":1}', "gone": b'{"n":2}'}, "pre-key": {"7": b'{"k":7}'}}
BOLT = Company("bolt")
_TAKE = Statement(
    "test.take",
    "update standfast_writers set epoch = epoch + 100000, base = epoch + 100000, sequence = sequence + 1000,"
    " node = null, claimed_by = null",
)
_HOLD = Statement(
    "test.hold",
    "with n as (insert into standfast_nodes (node, name, instance, alive_until)"
    " values (gen_random_uuid(), 'two', gen_random_uuid(), now() + interval '1 minute') returning node)"
    " update standfast_writers set epoch = epoch + 100000, node = n.node, claimed_by = n.node from n",
)
_WRITER = Statement("test.writer", "select epoch, sequence from standfast_writers where company_id = 'acme'")
_HOLDER = Statement(
    "test.holder", "select n.name from standfast_writers w join standfast_nodes n on n.node = w.node"
)
_THEIRS = Statement(
    "test.theirs",
    "insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)"
    " values ('acme', 'session', 'theirs', '1', now(), now())",
)

_LEGACY = """
create schema bots;
create table bots.whatsapp_auth (company_id varchar(50) primary key, creds text not null, created_at timestamp,
    updated_at timestamp);
create table bots.whatsapp_keys (id serial primary key, company_id varchar(50), key_type varchar(40),
    key_id varchar(255), value text, created_at timestamp, updated_at timestamp);
do $$ begin execute format('alter database %I set search_path = bots, public', current_database()); end $$;
"""


@pytest.fixture
async def stored(store: PostgresAuthStore) -> PostgresAuthStore:
    await store.install(ACME, made_up_creds(), KEYS)
    return store


async def taken_over(options: DatabaseOptions, keys: dict[str, dict[str, bytes | None]]) -> None:
    """Another owner, who leases nothing, takes acme and writes these."""
    async with Database(options) as database:
        await PostgresAuthStore(database).set_keys(ACME, keys)


async def test_a_conflict_is_decided_for_files(
    state: Path, database_options: DatabaseOptions, stored: PostgresAuthStore
) -> None:
    """Undecided it stays as it is on both sides; decided, what PostgreSQL had is kept as a folder first."""
    settings = settings_of(state, database_options)
    await stopped_on_files(state, database_options)
    await taken_over(database_options, {"session": {f"t{n}": b'{"n":5}' for n in range(30)}})
    await taken_over(database_options, {"session": {"theirs": b'{"n":5}'}})
    report = await returned(settings)
    assert (report.is_back, report.undecided) == (False, ["acme"])
    assert "theirs" in await sessions(stored)
    report = await returned(settings, Wish("files"))
    assert report.ok
    found = await sessions(stored)
    assert found["ours"] == {"n": 9}
    assert "theirs" not in found
    (one,) = report.companies
    assert one.kept is not None
    assert (Path(one.kept) / "session-theirs.json").exists()
    async with running(state, database_options, schedule="off") as now:
        await now.service.vault.open(ACME)
        await now.service.vault.set_keys(ACME, {"session": {"later": b'{"n":1}'}})
        await now.in_state("online")
        await until(lambda: not now.service.vault.held.all()[0].pending)
    assert {"ours", "later"} <= (await sessions(stored)).keys()


async def test_a_conflict_is_decided_for_postgresql(
    state: Path, database_options: DatabaseOptions, database: Database, stored: PostgresAuthStore
) -> None:
    """The node follows PostgreSQL; its own writes wait in quarantine and lie in a folder."""
    settings = settings_of(state, database_options)
    async with running(state, database_options, schedule="off") as now:
        vault = now.service.vault
        await now.in_state("online")
        await on_files(now)
        await vault.set_keys(ACME, {"session": {"ours": b'{"n":9}'}})
        await database.fetch(_TAKE)
        report = await returned(settings, Wish("postgresql", frozenset({"acme"})))
        assert report.is_back
        assert report.companies[0].kept is not None
        assert (Path(report.companies[0].kept) / "session-ours.json").exists()
        assert [one.company for one in vault.replica.quarantined()] == [ACME]
        with pytest.raises(CompanyInUse, match="acme"):
            await vault.set_keys(ACME, {"session": {"x": b"1"}})
        await vault.open(ACME)
        assert await vault.get_keys(ACME, "session", ["ours"]) == {}
    assert "ours" not in await sessions(stored)


async def test_files_win_while_the_session_writes(
    state: Path, database_options: DatabaseOptions, database: Database, stored: PostgresAuthStore
) -> None:
    """PostgreSQL's sequence is far beyond ours and never goes back: no write is taken for one that it has already."""
    settings = settings_of(state, database_options)
    async with running(state, database_options, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        async with writing(now) as ledger:
            await until(lambda: len(ledger.written) >= 10)
            await database.fetch(_TAKE)
            await database.fetch(_THEIRS)
            ((epoch, sequence),) = await database.fetch(_WRITER)
            assert (await returned(settings, Wish("files"))).ok
            ((later_epoch, later_sequence),) = await database.fetch(_WRITER)
            assert (later_epoch > epoch, later_sequence > sequence) == (True, True)
            before = ledger.written["w0"]
            await until(lambda: ledger.written["w0"] != before)
        await until(lambda: not now.service.vault.held.all()[0].pending)
        expected = {key: json.loads(value) for key, value in ledger.written.items()}
    assert await sessions(stored) == {**expected, "a": {"n": 1}, "gone": {"n": 2}}


async def test_a_database_that_moves_on_meanwhile_is_not_overwritten(
    state: Path, database_options: DatabaseOptions, database: Database, stored: PostgresAuthStore
) -> None:
    """Neither after the comparison nor in the last moment before the import; the session goes on, on files."""
    settings = settings_of(state, database_options)
    async with running(state, database_options, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        shown = await looked(settings)
        (one,) = shown.companies
        await now.service.vault.set_keys(ACME, {"session": {"ours": b"1"}})
        await database.fetch(_TAKE)
        await database.fetch(_THEIRS)
        with pytest.raises(EmergencyRefused, match="moved on"):
            await returned(settings, shown=shown)
        returning = Returning(now.service.vault, now.service.database)
        ((epoch, sequence),) = await database.fetch(_WRITER)
        for seen in (Seen(one.postgresql_epoch, sequence), Seen(epoch, sequence - 1)):
            with pytest.raises(EmergencyRefused, match="moved on"):
                await returning.put_back(ACME, seen)
        assert (await sessions(stored)).keys() == {"a", "gone", "theirs"}
        await now.service.vault.set_keys(ACME, {"session": {"later": b"1"}})
        assert now.service.files.mode is not None


async def test_what_another_living_node_has_is_left_to_it(
    state: Path, database_options: DatabaseOptions, database: Database, stored: PostgresAuthStore
) -> None:
    """Not even --prefer files takes it; given up here, the node goes back without it."""
    settings = settings_of(state, database_options)
    async with running(state, database_options, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        await database.fetch(_HOLD)
        (one,) = (await looked(settings, Wish("files"))).companies
        assert (one.verdict, one.action) == ("held", "decide")
        returning = Returning(now.service.vault, now.service.database)
        with pytest.raises(CompanyInUse, match="node two"):
            await returning.put_back(ACME, Seen(one.postgresql_epoch, one.postgresql_sequence))
        report = await returned(settings, Wish("postgresql"))
        assert report.is_back
        assert now.service.vault.replica.record(ACME) is None
    assert await database.fetch(_HOLDER) == [("two",)]


async def test_another_database_is_gone_to_only_when_asked(
    state: Path,
    database_options: DatabaseOptions,
    other_database_options: DatabaseOptions,
    stored: PostgresAuthStore,
) -> None:
    """What it has of other companies stays; what it has of ours is a conflict."""
    async with Database(other_database_options) as other:
        theirs = PostgresAuthStore(other)
        await other.fetch(Statement("test.other", "update standfast_identity set id = gen_random_uuid()"))
        await theirs.install(BOLT, made_up_creds(b"\x09" * 32), KEYS)
        await stopped_on_files(state, database_options)
        settings = settings_of(state, other_database_options)
        with pytest.raises(EmergencyRefused, match="another database"):
            await looked(settings)
        await theirs.install(ACME, made_up_creds(), {"session": {"x": b"1"}})
        outlook = await looked(settings, other_database=True)
        assert [(one.company, one.verdict) for one in outlook.companies] == [("acme", "conflict")]
        assert outlook.left_alone == ["bolt"]
        report = await returned(settings, Wish("files"), other_database=True)
        assert report.ok
        assert (await sessions(theirs)).keys() == {"a", "gone", "ours"}
        assert (await sessions(theirs, BOLT)).keys() == {"a", "gone"}
        async with running(state, other_database_options, schedule="off") as now:
            await now.in_state("online")
            assert await now.service.vault.open(ACME)


async def test_rows_of_a_node_bot_are_not_taken_for_older(
    state: Path, database_options: DatabaseOptions, database: Database, stored: PostgresAuthStore
) -> None:
    """Without an epoch only the same content is no conflict."""
    settings = settings_of(state, database_options)
    await stopped_on_files(state, database_options)
    await database.fetch(Statement("test.legacy", "delete from standfast_writers"))
    (one,) = (await looked(settings)).companies
    assert one.verdict == "conflict"
    await taken_over(database_options, {"session": {"ours": b'{"n": 9}'}})
    await database.fetch(Statement("test.legacy", "delete from standfast_writers"))
    (one,) = (await looked(settings)).companies
    assert one.verdict == "equal"
    assert (await returned(settings)).ok


async def test_tables_of_a_node_bot_take_it_back_as_well(
    state: Path, bare_database_options: DatabaseOptions
) -> None:
    """Columns of text, a serial id, another schema of the search path; a value that is damaged there is replaced."""
    with psycopg.connect(bare_database_options.to_conninfo(), autocommit=True) as connection:
        connection.execute(_LEGACY)
    async with Database(bare_database_options) as database:
        await migrate(database)
        store = PostgresAuthStore(database)
        await store.install(ACME, made_up_creds(), KEYS)
        settings = settings_of(state, bare_database_options)
        await stopped_on_files(state, bare_database_options)
        await database.fetch(Statement("test.damage", "update bots.whatsapp_keys set value = '{\"n\"'"))
        await database.fetch(Statement("test.older", "update standfast_writers set epoch = epoch - 100000"))
        assert (await returned(settings)).ok
        assert await sessions(store) == {"a": {"n": 1}, "gone": {"n": 2}, "ours": {"n": 9}}
        assert await database.fetch(Statement("test.count", "select count(*) from bots.whatsapp_keys")) == [
            (4,)
        ]
