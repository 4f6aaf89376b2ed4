"""What the tables hold: counted, carried on in time, and known while PostgreSQL is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from standfast.health import census_pace
from standfast.health.keys import KeyWatch
from standfast.health.thresholds import Thresholds
from standfast.postgres import census_table
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from tests.integration.aged_keys import LOW, ONE, add, codes, pass_time, run
from tests.support import Proxy, until


@pytest.fixture
def watch(database: Database) -> KeyWatch:
    return KeyWatch(database, ONE, "one", LOW)


async def test_a_census_counts_by_age_type_and_company(database: Database, watch: KeyWatch) -> None:
    """All keys are counted; expired are those alone that age is a reason to remove."""
    await run(database, "insert into whatsapp_auth (company_id, creds) values ('acme', '{}')")
    for key_type in ("session", "pre-key", "identity-key", "lid-mapping", "unheard-of", "standfast-taken"):
        await add(database, key_type, 2, 40)
    await add(database, "tctoken", 1, 40, key_id="__index")
    for days in (0.5, 2, 8, 20):
        await add(database, "sender-key-memory", 1, days, key_id=str(days), company="other")
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert (section.auth_records, section.keys, section.own, section.exact) == (1, 17, 2, True)
    assert section.ages == {"<1d": 1, "1-7d": 1, "7-14d": 1, "14-30d": 1, ">30d": 13}
    assert (section.expired, section.expired_types) == (2, {"session": 2})
    assert section.types["unheard-of"] == 2
    assert [(c.company, c.keys, c.expired) for c in section.companies] == [("acme", 13, 2), ("other", 4, 0)]
    assert section.table_bytes > 0
    assert section.index_bytes > 0
    assert codes(watch) == []


async def test_any_number_of_types_is_summed_up(database: Database, watch: KeyWatch) -> None:
    await run(
        database,
        "insert into whatsapp_keys (company_id, key_type, key_id, value)"
        " select 'acme', 'type-' || n, m::text, '1'"
        " from generate_series(1, 130) n, generate_series(1, (n > 99)::int + 1) m",
    )
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert section.keys == 161
    assert len(section.types) == 101
    assert section.types["_other"] == 30


async def test_thresholds_and_the_age_limit_of_each_type(database: Database) -> None:
    """A warning and an error where the settings say; a shorter retention spares tokens that are still good."""
    await add(database, "session", 2, 9)
    await add(database, "tctoken", 5, 9)
    watch = KeyWatch(database, ONE, "one", replace(LOW, retention_days=7, expired_warning=2, expired_error=3))
    await watch.tick()
    (finding,) = watch.findings()
    assert (finding.code, finding.level) == ("expired_keys", "warning")
    assert "2 keys" in finding.message
    assert "session 2" in finding.message
    assert finding.recommendation
    await add(database, "session", 1, 31, after=2)
    await pass_time(database, 250)
    await watch.tick()
    assert codes(watch) == [("expired_keys", "error")]


async def test_keys_that_pass_their_limit_are_known_without_a_count(database: Database) -> None:
    """Between two counts the figure is that of the last, plus what has passed the limit since: never too low."""
    await add(database, "session", 2, 31)
    await add(database, "session", 4, 30 - 90 / 86400, after=2)
    await add(database, "session", 8, 30 - 1.5 / 24, after=6)
    watch = KeyWatch(database, ONE, "one", Thresholds(expired_warning=100))
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert (section.expired, section.exact) == (2, True)
    await pass_time(database, 100)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert (section.expired, section.exact) == (6, False)
    assert section.measured_at is not None
    assert 95 < section.measured_at - section.counted_at < 130
    found = await census_table.latest(database)
    assert found is not None
    assert found.census.expired_after(5_100) == 6
    assert found.census.expired_after(5_500) == 14


async def test_an_estimate_follows_what_came_and_went(database: Database, watch: KeyWatch) -> None:
    """Between two counts the number of keys is known from the server's counters."""
    flush = "select pg_stat_force_next_flush()"  # they follow within seconds by themselves
    await add(database, "pre-key", 50, 1)
    await run(database, flush)
    await watch.tick()
    await add(database, "pre-key", 30, 0, after=50)
    await run(database, "delete from whatsapp_keys where key_id::int <= 10")
    await run(database, flush)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert (section.keys, section.exact) == (70, False)


async def test_an_estimate_alone_never_changes_the_verdict(
    database: Database, watch: KeyWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where enough keys may have expired for a word, they are counted first, also in a table counted once an hour."""
    monkeypatch.setattr(census_pace, "LARGE_KEYS", 7)
    await add(database, "session", 8, 30 - 600 / 86400)
    await watch.tick()
    assert codes(watch) == []
    await pass_time(database, 500)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert not section.exact
    await pass_time(database, 500)
    await run(database, "update whatsapp_keys set updated_at = now() where key_id in ('1', '2', '3')")
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert (section.expired, section.exact) == (5, True), "three of them were written since"
    assert codes(watch) == [("expired_keys", "warning")]


@pytest.fixture
async def legacy(bare_database: Database) -> Database:
    """A bot's own table: times without a zone, which may be missing; no created_at, a short type."""
    async with bare_database.transaction("script", 5) as connection:
        await connection.execute(
            "create table whatsapp_keys (company_id varchar(50), key_type varchar(40), key_id varchar(255), value text,"
            " updated_at timestamp default now(), primary key (company_id, key_type, key_id))"
        )
    await migrate(bare_database)
    return bare_database


async def test_a_bots_table_with_times_without_a_zone(legacy: Database) -> None:
    """Its times are taken as the server's zone has them; a key without one counts as new."""
    await run(
        legacy,
        "insert into whatsapp_keys (company_id, key_type, key_id, value, updated_at)"
        " select 'acme', 'session', n::text, '1', case when n > 2 then localtimestamp - n * interval '10 days' end"
        " from generate_series(1, 5) n",
    )
    watch = KeyWatch(legacy, ONE, "one", LOW)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert section.ages == {"<1d": 2, "1-7d": 0, "7-14d": 0, "14-30d": 0, ">30d": 3}
    assert section.expired == 3


async def test_partitions_count_too(bare_database: Database) -> None:
    """A table that an operator partitioned is counted, measured and carried on like another."""
    async with bare_database.transaction("script", 5) as connection:
        await connection.execute(
            "create table whatsapp_keys (company_id text, key_type text, key_id text, value jsonb,"
            " updated_at timestamptz default now(), primary key (company_id, key_type, key_id))"
            " partition by hash (company_id)"
        )
        for part in range(2):
            await connection.execute(
                f"create table keys_{part} partition of whatsapp_keys"
                f" for values with (modulus 2, remainder {part})"
            )
    await migrate(bare_database)
    for company in ("a", "b", "c", "d"):
        await run(
            bare_database,
            "insert into whatsapp_keys (company_id, key_type, key_id, value) values ($1, 'session', '1', '1')",
            company,
        )
    watch = KeyWatch(bare_database, ONE, "one", LOW)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert section.keys == 4
    assert section.table_bytes >= 2 * 8192
    assert section.index_bytes >= 4 * 8192


async def test_a_lock_puts_the_count_off(database_options: DatabaseOptions) -> None:
    """While somebody rewrites the table, the last figures stay; afterwards it is counted."""
    async with Database(replace(database_options, statement_timeout_s=0.5)) as database:
        watch = KeyWatch(database, ONE, "one", LOW)
        await add(database, "session", 4, 40)
        await watch.tick()
        await pass_time(database, 1_000)
        async with database.transaction("hold", 20) as connection:
            await connection.execute("lock whatsapp_keys in access exclusive mode")
            await watch.tick()
            assert codes(watch) == [("expired_keys", "warning")]
            shown = watch.section()
            assert shown is not None
            assert shown.measured_at is not None
            later = watch.findings(shown.measured_at + 960)
            assert [finding.code for finding in later] == ["expired_keys", "keys_unknown"]
        await watch.tick()
        section = watch.section()
        assert section is not None
        assert section.exact
        assert section.counted_at > shown.counted_at


@pytest.fixture
async def slow(database_options: DatabaseOptions) -> None:
    """A table that takes a while to count: the server sorts it."""
    async with Database(database_options) as database:
        await run(database, f"alter database {database_options.dbname} set enable_hashagg = off")
        await run(
            database,
            "insert into whatsapp_keys (company_id, key_type, key_id, value)"
            " select md5(n::text), 'session', n::text, '1' from generate_series(1, 120000) n",
        )
        await run(database, "vacuum analyze whatsapp_keys")


@pytest.mark.usefixtures("slow")
async def test_a_table_that_takes_too_long_is_sampled(database_options: DatabaseOptions) -> None:
    """A count that the time limit ends is followed by one of a part of the table, which says so."""
    async with Database(database_options) as database:
        watch = KeyWatch(database, ONE, "one", LOW, timeout_s=0.1)
        await watch.tick()
        assert watch.section() is None
        assert codes(watch) == [("keys_unknown", "unknown")]

        async def measured() -> bool:
            await watch.tick()
            return watch.section() is not None

        await until(measured)
        section = watch.section()
        assert section is not None
        assert not section.exact
        assert section.share < 1
        assert 10_000 < section.keys < 600_000


@pytest.mark.usefixtures("slow")
async def test_postgresql_that_hangs_in_the_middle_of_a_count(
    proxied: DatabaseOptions, proxy: Proxy, database: Database
) -> None:
    """The tick ends at its deadline; the next one counts all of the table again."""
    counting = "select 1 from pg_stat_activity where state = 'active' and query like '%as materialized%' and pid <> $1"
    async with Database(replace(proxied, checkout_timeout_s=0.5)) as away:
        watch = KeyWatch(away, ONE, "one", LOW, timeout_s=1.5)
        tick = asyncio.create_task(watch.tick())

        async def is_counting() -> bool:
            ((own,),) = await run(database, "select pg_backend_pid()")
            return bool(await run(database, counting, own))

        await until(is_counting)
        proxy.freeze()
        await asyncio.wait_for(tick, 5)
        assert codes(watch) == [("keys_unknown", "unknown")]
        await watch.tick()
        section = watch.section()
        assert section is not None
        assert (section.keys, section.exact) == (120_000, True)


async def test_postgresql_that_goes_away_changes_nothing(proxied: DatabaseOptions, proxy: Proxy) -> None:
    """The section stays with its age, an old one is remarked on, and the holder stays the holder: no alert ends."""
    async with Database(replace(proxied, connect_timeout_s=2.0)) as database:
        watch = KeyWatch(database, ONE, "one", LOW)
        await add(database, "session", 4, 40)
        await watch.tick()
        before = watch.section()
        assert before is not None
        assert before.measured_at is not None
        await proxy.close()
        await watch.tick()
        assert watch.section() == before
        assert watch.is_holder
        assert codes(watch) == [("expired_keys", "warning")]
        later = watch.findings(before.measured_at + 960)
        assert [finding.code for finding in later] == ["expired_keys", "keys_unknown"]
        assert "16 minutes ago" in later[1].message
        await proxy.listen()
        await watch.tick()
        assert watch.section() != before


async def test_without_its_tables_the_watch_says_what_to_do(bare_database: Database) -> None:
    watch = KeyWatch(bare_database, ONE, "one", LOW)
    assert codes(watch) == [("keys_unknown", "info")]
    await watch.tick()
    (finding,) = watch.findings()
    assert (finding.code, finding.level) == ("keys_unknown", "unknown")
    assert "standfast migrate" in str(finding.recommendation)
    await watch.close()
