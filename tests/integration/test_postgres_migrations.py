"""Making the schema, and adopting what Node bots made."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import aclosing
from dataclasses import replace

import pytest

from standfast.authstate.change import Change
from standfast.authstate.company import company_id
from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres import sessions_table
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.leases import Leases
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.replication import Delivered, Delivery, Replication
from standfast.postgres.statistics import statistics
from standfast.postgres.store import PostgresAuthStore
from tests.support import made_up_creds

ACME = company_id("acme")
IDENTITY = b"\x07" * 32

# As bots in the wild make them.
USUAL = """
create table whatsapp_auth (company_id text primary key, creds jsonb not null,
    created_at timestamptz default now(), updated_at timestamptz default now());
create table whatsapp_keys (id serial primary key, company_id text not null, key_type text not null,
    key_id text not null, value jsonb not null, created_at timestamp default now(), updated_at timestamp default now(),
    expires_at timestamp, unique (company_id, key_type, key_id));
"""
TEXT_ONLY = """
create table whatsapp_auth (company_id varchar(50) primary key, creds text not null);
create table whatsapp_keys (company_id varchar(50), key_type varchar(100), key_id varchar(255), value text);
create unique index some_name on whatsapp_keys (key_id, company_id, key_type);
"""
JSON_WITHOUT_UNIQUE = """
create table whatsapp_auth (company_id text, creds json, updated_at timestamptz not null);
create table whatsapp_keys (company_id text, key_type text, key_id text, value json, updated_at timestamptz not null);
"""


async def script(database: Database, text: str) -> None:
    async with database.transaction("script", 5) as connection:
        await connection.execute(text, prepare=False)


async def fill_as_a_bot(database: Database) -> None:
    """Rows in both Buffer encodings, written by plain SQL."""
    numbers = json.loads(made_up_creds()) | {
        "signedIdentityKey": {"public": {"type": "Buffer", "data": list(IDENTITY)}}
    }
    more, now = (", updated_at", ", now()") if await has_time(database) else ("", "")
    creds = f"insert into whatsapp_auth (company_id, creds{more}) values ('acme', $1{now})"
    await database.fetch(Statement("creds", creds), [json.dumps(numbers)])
    columns = f"company_id, key_type, key_id, value{more}"
    key = f"insert into whatsapp_keys ({columns}) values ('acme', 'session', $1, $2{now})"
    for key_id, value in KEYS.items():
        await database.fetch(Statement("key", key), [key_id, json.dumps(value)])


KEYS = {
    "1.0": {"type": "Buffer", "data": "AQID"},
    "2.0": {"type": "Buffer", "data": [1, 2, 3]},
    "3.0": {"0": 1, "1": 2},
}


async def has_time(database: Database) -> bool:
    found = Statement(
        "column",
        "select 1 from information_schema.columns where table_name = 'whatsapp_keys' and column_name = 'updated_at'",
    )
    return bool(await database.fetch(found))


async def test_an_empty_database_is_made_ready_once(bare_database: Database) -> None:
    """The dry run changes nothing; the run does what the dry run said; the next finds nothing to do."""
    planned = await migrate(bare_database, dry_run=True)
    assert (
        await bare_database.fetch(
            Statement("tables", "select 1 from pg_class where relname like 'whatsapp%'")
        )
        == []
    )
    done = await migrate(bare_database)
    assert done == planned
    assert [step.version for step in done.steps] == [1, 2, 3, 4, 5, 6, 7]
    assert (await migrate(bare_database)).is_empty
    assert (await statistics(bare_database)).records == 0


async def test_two_migrations_at_once_are_safe(bare_database_options: DatabaseOptions) -> None:
    """One does it, the others wait and find it done."""
    async with Database(bare_database_options) as one, Database(bare_database_options) as two:
        plans = await asyncio.gather(*(migrate(database) for database in (one, two, one, two)))
        assert sorted(plan.is_empty for plan in plans) == [False, True, True, True]


async def test_a_migration_that_is_locked_out_says_so(bare_database: Database) -> None:
    await migrate(bare_database)
    async with bare_database.transaction("hold", 5) as connection:
        await connection.execute("select pg_advisory_xact_lock($1)", [0x5374616E64666173])
        with pytest.raises(DatabaseUnavailable) as caught:
            await migrate(bare_database, lock_timeout_s=0.2)
    assert caught.value.facts["cause"] == "locked"


@pytest.mark.parametrize("tables", [USUAL, TEXT_ONLY, JSON_WITHOUT_UNIQUE], ids=["usual", "text", "json"])
async def test_a_bots_tables_are_adopted_with_their_rows(bare_database: Database, tables: str) -> None:
    """What the bot stored is served as it is, in either Buffer encoding; then Standfast reads, writes and counts."""
    await script(bare_database, tables)
    await fill_as_a_bot(bare_database)
    planned = await migrate(bare_database, dry_run=True)
    assert (await migrate(bare_database)) == planned
    assert (await migrate(bare_database)).is_empty
    store = PostgresAuthStore(bare_database)
    found = await store.get_keys(ACME, "session", list(KEYS))
    assert {key_id: json.loads(value) for key_id, value in found.items()} == KEYS
    await store.save_creds(ACME, made_up_creds(IDENTITY, nextPreKeyId=77))
    await store.set_keys(ACME, {"session": {"1.0": None, "2.0": b'"new"'}, "pre-key": {"1": b"{}"}})
    assert await store.get_keys(ACME, "session", ["1.0", "2.0"]) == {"2.0": b'"new"'}
    loaded = await store.load_creds(ACME)
    assert loaded is not None
    assert json.loads(loaded)["nextPreKeyId"] == 77
    found_statistics = await statistics(bare_database, ACME)
    assert found_statistics.keys_by_type == {"session": 2, "pre-key": 1}
    await deliver_and_read_back(bare_database)


async def deliver_and_read_back(database: Database) -> None:
    """What a node does with a company of a bot's: all of it is replaced, then read."""
    got = await Leases(database).acquire(ACME, str(uuid.UUID(int=1)), 0)
    replication = Replication(database)
    change = Change(creds=made_up_creds(), keys={"session": {"2.0": None, "3.0": b"[3]"}})
    delivery = Delivery(ACME, got.epoch, got.sequence + 1, got.sequence + 1, change)
    assert await replication.deliver([delivery]) == [Delivered("applied", got.sequence + 1)]
    async with aclosing(replication.stream(ACME)) as chunks:
        rows = {(row[0], row[1]): json.loads(row[2]) async for chunk in chunks for row in chunk}
    assert rows == {(None, None): json.loads(made_up_creds()), ("session", "3.0"): [3], ("pre-key", "1"): {}}


async def test_adoption_adds_only_what_is_missing(bare_database: Database) -> None:
    await script(bare_database, TEXT_ONLY)
    plan = await migrate(bare_database, dry_run=True)
    assert [step.title for step in plan.steps if step.version is None] == [
        "add whatsapp_auth.created_at",
        "add whatsapp_auth.updated_at",
        "add whatsapp_keys.created_at",
        "add whatsapp_keys.updated_at",
        "add whatsapp_keys.expires_at",
    ]
    assert plan.notices == ()


async def test_duplicate_rows_are_reported_never_deleted(bare_database: Database) -> None:
    """Without a unique index a bot may have written a key twice: which one counts is not ours to guess."""
    await script(bare_database, JSON_WITHOUT_UNIQUE)
    await fill_as_a_bot(bare_database)
    await script(bare_database, "insert into whatsapp_keys select * from whatsapp_keys where key_id <> '3.0'")
    with pytest.raises(DatabaseRejected, match="2 groups of rows") as caught:
        await migrate(bare_database)
    assert "GROUP BY company_id, key_type, key_id" in caught.value.next_step
    count = Statement("count", "select count(*) from whatsapp_keys")
    assert await bare_database.fetch(count) == [(5,)]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            "create table whatsapp_auth (company text, creds jsonb)",
            "table whatsapp_auth has no column company_id",
        ),
        ("create table whatsapp_auth (company_id int, creds jsonb)", r"whatsapp_auth\.company_id is integer"),
        (
            "create table whatsapp_auth (company_id text primary key, creds bytea)",
            r"whatsapp_auth\.creds is bytea",
        ),
        (
            "create table whatsapp_auth (company_id text primary key, creds jsonb, updated_at bigint)",
            r"whatsapp_auth\.updated_at is bigint",
        ),
        (
            "create table whatsapp_auth (company_id text primary key, creds jsonb, bot text not null)",
            "demands a value for bot",
        ),
        ("create view whatsapp_keys as select 1", "whatsapp_keys is not a table"),
    ],
)
async def test_an_incompatible_table_is_refused_before_any_change(
    bare_database: Database, tables: str, message: str
) -> None:
    await script(bare_database, tables)
    with pytest.raises(DatabaseRejected, match=message) as caught:
        await migrate(bare_database)
    assert caught.value.next_step
    made = Statement("made", "select 1 from pg_class where relname like 'standfast%'")
    assert await bare_database.fetch(made) == []


@pytest.mark.parametrize(
    ("index", "command"),
    [
        (
            'create unique index "Odd name" on whatsapp_keys (company_id, key_type, key_id) include (value)',
            'DROP INDEX CONCURRENTLY "Odd name";',
        ),
        (
            "alter table whatsapp_keys add constraint covering unique (company_id, key_id) include (value)",
            'ALTER TABLE whatsapp_keys DROP CONSTRAINT "covering";',
        ),
    ],
)
async def test_an_index_that_limits_the_size_of_sessions_is_named(
    bare_database: Database, index: str, command: str
) -> None:
    """It stays; the notice has the exact command, and after it large values pass."""
    await script(bare_database, USUAL + index)
    plan = await migrate(bare_database)
    (notice,) = plan.notices
    assert command in notice.next_step
    store = PostgresAuthStore(bare_database)
    large = json.dumps("".join(chr(0x4E00 + i * 7919 % 20000) for i in range(20000))).encode()
    with pytest.raises(DatabaseRejected) as caught:
        await store.set_keys(ACME, {"session": {"1.0": large}})
    assert caught.value.facts["cause"] == "limit"
    await bare_database.fetch(Statement("drop", command))
    await store.set_keys(ACME, {"session": {"1.0": large}})
    assert (await migrate(bare_database)).notices == ()


async def test_a_dropped_table_is_made_again(bare_database: Database) -> None:
    await migrate(bare_database)
    await script(bare_database, "drop table whatsapp_keys")
    store = PostgresAuthStore(bare_database)
    with pytest.raises(DatabaseRejected) as caught:
        await store.get_keys(ACME, "session", ["1"])
    assert "standfast migrate" in caught.value.next_step
    await migrate(bare_database)
    assert await store.get_keys(ACME, "session", ["1"]) == {}


async def test_a_newer_schema_is_used_and_not_touched(bare_database: Database) -> None:
    """In an upgrade an old node may start, or start again, after a new one has migrated: the new one only added. Where
    it says that older ones cannot use the schema, they refuse."""
    await migrate(bare_database)
    await script(bare_database, "insert into standfast_migrations values (99, 'future', 'x')")
    assert (await migrate(bare_database)).is_empty
    await script(bare_database, "update standfast_migrations set breaks_below = 99 where version = 99")
    with pytest.raises(DatabaseRejected, match="newer Standfast"):
        await migrate(bare_database)


async def test_a_ledger_of_before_that_is_read(bare_database: Database) -> None:
    """The column came with version 7: a database of version 6 is brought up, and then has it."""
    await migrate(bare_database)
    await script(
        bare_database,
        "drop table standfast_handovers; delete from standfast_migrations where version = 7;"
        " alter table standfast_migrations drop column breaks_below",
    )
    assert [step.version for step in (await migrate(bare_database)).steps] == [7]
    await script(bare_database, "update standfast_migrations set breaks_below = null where version = 7")
    assert (await migrate(bare_database)).is_empty


async def test_an_altered_migration_is_noticed(bare_database: Database) -> None:
    await migrate(bare_database)
    await script(bare_database, "update standfast_migrations set checksum = 'x' where version = 2")
    with pytest.raises(DatabaseRejected, match="migration 2"):
        await migrate(bare_database)


async def test_a_failed_migration_leaves_nothing(bare_database: Database) -> None:
    """A name that is taken stops migration 2; migration 1 is undone with it."""
    await script(bare_database, "create table standfast_sessions (x int)")
    with pytest.raises(DatabaseRejected):
        await migrate(bare_database)
    made = Statement(
        "made",
        "select relname::text from pg_class where relname ~ '^(whatsapp|standfast).*[a-z]$' and relkind = 'r'",
    )
    assert await bare_database.fetch(made) == [("standfast_sessions",)]


async def test_another_encoding_is_refused(postgres_server: EmbeddedServer, database: Database) -> None:
    await database.fetch(
        Statement(
            "create",
            "create database latin encoding 'LATIN1' locale 'C' locale_provider 'libc' template template0",
        )
    )
    async with Database(replace(postgres_server.options, dbname="latin")) as latin:
        with pytest.raises(DatabaseRejected, match="LATIN1"):
            await migrate(latin)
    await database.fetch(Statement("drop", "drop database latin with (force)"))


async def test_wanted_sessions(database: Database) -> None:
    """A wish is kept, changed and forgotten."""
    for company in ("b", "a", "c"):
        await sessions_table.set_wanted(database, company_id(company), True)
    await sessions_table.set_wanted(database, company_id("b"), False)
    assert await sessions_table.list_wanted(database) == ["a", "c"]
    await sessions_table.remove(database, company_id("a"))
    assert await sessions_table.list_wanted(database) == ["c"]
    await sessions_table.set_unlinked(database, company_id("c"))
    assert await sessions_table.is_unlinked(database, company_id("c"))
    assert await sessions_table.list_wanted(database) == []
    await sessions_table.set_linked(database, company_id("c"))
    assert not await sessions_table.is_unlinked(database, company_id("c"))
    assert await sessions_table.list_wanted(database) == ["c"]


async def test_statistics_count_records_types_sizes_and_ages(database: Database) -> None:
    store = PostgresAuthStore(database)
    await store.create_creds(ACME, made_up_creds(IDENTITY))
    await store.set_keys(ACME, {"session": {str(n): b'"1234"' for n in range(6)}, "pre-key": {"1": b"1"}})
    await store.set_keys(company_id("other"), {"session": {"1": b"1"}})
    for number, days in enumerate((0.9, 1.1, 8, 15, 31, -1)):
        await database.fetch(
            Statement(
                "age",
                "update whatsapp_keys set updated_at = now() - $1 * interval '1 day' where key_id = $2"
                " and company_id = 'acme' and key_type = 'session'",
            ),
            [days, str(number)],
        )
    found = await statistics(database, ACME)
    assert (found.companies, found.creds, found.keys, found.records) == (1, 1, 7, 8)
    assert found.keys_by_type == {"session": 6, "pre-key": 1}
    assert found.value_bytes_by_type == {"session": 36, "pre-key": 1}
    assert found.keys_by_age == {"<1d": 3, "1-7d": 1, "7-14d": 1, "14-30d": 1, ">30d": 1}
    assert found.oldest is not None
    assert found.newest is not None
    assert 31 < (found.newest - found.oldest).days <= 32
    assert found.total_bytes > found.index_bytes > 0
    assert json.dumps(found.as_dict())
    everyone = await statistics(database)
    assert (everyone.companies, everyone.keys) == (2, 8)
    nobody = await statistics(database, company_id("nobody"))
    assert (nobody.records, nobody.oldest) == (0, None)
