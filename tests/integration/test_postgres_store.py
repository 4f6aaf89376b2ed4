"""The auth-state contract on real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from standfast.authstate.buffer_json import stored_forms
from standfast.authstate.company import Company, company_id
from standfast.errors import (
    AuthStateCorrupt,
    CompanyInUse,
    CompanyUnknown,
    DatabaseRejected,
    DatabaseUnavailable,
    UsageError,
)
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from tests.support import Proxy, made_up_creds, until

ACME = company_id("acme")
OTHER = company_id("other")
IDENTITY = bytes(range(32))


def sql(text: str) -> Statement:
    return Statement("test", text)


async def value_of(store: PostgresAuthStore, key_type: str, key_id: str, company: Company = ACME) -> object:
    found = await store.get_keys(company, key_type, [key_id])
    return json.loads(found[key_id]) if key_id in found else None


async def test_absent_company_has_no_creds(store: PostgresAuthStore) -> None:
    """Absence is None, confirmed by the database."""
    assert await store.load_creds(ACME) is None


async def test_creds_return_as_they_were_stored(store: PostgresAuthStore) -> None:
    """A creds document survives creation and replacement."""
    await store.create_creds(ACME, made_up_creds(IDENTITY, nextPreKeyId=1))
    await store.save_creds(ACME, made_up_creds(IDENTITY, nextPreKeyId=31, platform="тест \u2028"))
    loaded = await store.load_creds(ACME)
    assert loaded is not None
    assert json.loads(loaded) == json.loads(made_up_creds(IDENTITY, nextPreKeyId=31, platform="тест \u2028"))


async def test_existing_creds_are_never_minted_over(store: PostgresAuthStore) -> None:
    """create_creds refuses a company that has creds, and leaves them alone."""
    await store.create_creds(ACME, made_up_creds(IDENTITY))
    with pytest.raises(CompanyInUse):
        await store.create_creds(ACME, made_up_creds(b"\x01" * 32))
    loaded = await store.load_creds(ACME)
    assert loaded is not None
    assert json.loads(loaded) == json.loads(made_up_creds(IDENTITY))


async def test_saving_needs_an_existing_company(store: PostgresAuthStore) -> None:
    with pytest.raises(CompanyUnknown):
        await store.save_creds(ACME, made_up_creds(IDENTITY))
    assert await store.load_creds(ACME) is None


async def test_saving_refuses_another_identity(store: PostgresAuthStore) -> None:
    """A client that still holds a former pairing cannot overwrite the new one."""
    await store.create_creds(ACME, made_up_creds(IDENTITY))
    with pytest.raises(CompanyInUse, match="paired anew"):
        await store.save_creds(ACME, made_up_creds(b"\x01" * 32))
    loaded = await store.load_creds(ACME)
    assert loaded is not None
    assert json.loads(loaded) == json.loads(made_up_creds(IDENTITY))


@pytest.mark.parametrize(
    "form",
    [*stored_forms(IDENTITY), {"type": "Buffer", "data": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}],
)
async def test_saving_knows_the_identity_in_every_legacy_form(
    store: PostgresAuthStore, database: Database, form: object
) -> None:
    """Creds that a legacy bot wrote in another Buffer encoding are the same identity."""
    legacy = json.loads(made_up_creds(IDENTITY)) | {"signedIdentityKey": {"public": form}}
    await database.fetch(
        sql("insert into whatsapp_auth (company_id, creds) values ($1, $2::jsonb)"),
        [ACME, json.dumps(legacy)],
    )
    await store.save_creds(ACME, made_up_creds(IDENTITY, nextPreKeyId=99))
    loaded = await store.load_creds(ACME)
    assert loaded is not None
    assert json.loads(loaded)["nextPreKeyId"] == 99


async def test_stored_creds_without_identity_are_corrupt_not_absent(
    store: PostgresAuthStore, database: Database
) -> None:
    await database.fetch(sql("insert into whatsapp_auth (company_id, creds) values ($1, '{}')"), [ACME])
    with pytest.raises(AuthStateCorrupt):
        await store.save_creds(ACME, made_up_creds(IDENTITY))


async def test_get_returns_only_what_exists(store: PostgresAuthStore) -> None:
    await store.set_keys(ACME, {"session": {"1.0": b'"a"', "2.0": b"{}"}, "pre-key": {"1.0": b"3"}})
    await store.set_keys(OTHER, {"session": {"3.0": b"1"}})
    assert await store.get_keys(ACME, "session", ["1.0", "3.0", "2.0"]) == {"1.0": b'"a"', "2.0": b"{}"}
    assert await store.get_keys(ACME, "session", []) == {}


async def test_a_batch_sets_and_deletes_together(store: PostgresAuthStore) -> None:
    await store.set_keys(ACME, {"session": {"1.0": b"1", "2.0": b"2"}})
    await store.set_keys(
        ACME, {"session": {"1.0": None, "2.0": b"22", "absent": None}, "new-type": {"x": b"[]"}}
    )
    assert await store.get_keys(ACME, "session", ["1.0", "2.0"]) == {"2.0": b"22"}
    assert await value_of(store, "new-type", "x") == []


@pytest.mark.parametrize("bad", [rb'{"a":"\u0000"}', rb'"\ud800"', b'{"cut', b'"\xff"'])
async def test_one_bad_value_rolls_the_whole_batch_back(store: PostgresAuthStore, bad: bytes) -> None:
    """A value that PostgreSQL cannot hold is refused clearly, without quoting it, and nothing of its batch stays."""
    await store.set_keys(ACME, {"session": {"old": b"1"}})
    with pytest.raises(DatabaseRejected) as caught:
        await store.set_keys(ACME, {"session": {"old": None, "new": b"2"}, "pre-key": {"1": bad}})
    assert caught.value.facts["cause"] == "value"
    assert "cut" not in caught.value.message
    assert await store.get_keys(ACME, "session", ["old", "new"]) == {"old": b"1"}


async def test_a_refused_batch_does_not_block_the_next(store: PostgresAuthStore) -> None:
    with pytest.raises(DatabaseRejected):
        await store.set_keys(ACME, {"session": {"1": b"nope"}})
    await store.set_keys(ACME, {"session": {"1": b"1"}})
    assert await value_of(store, "session", "1") == 1


@pytest.mark.parametrize(
    "key_id", ["a:b/c", "'; drop", "{}", "  ", "ключ-\U0001f511", "123-456@g.us::7::0", "\\", ""]
)
async def test_any_id_is_kept_as_it_is(store: PostgresAuthStore, key_id: str) -> None:
    await store.set_keys(ACME, {"sender-key": {key_id: b'{"x": 1}'}})
    assert await store.get_keys(ACME, "sender-key", [key_id]) == {key_id: b'{"x": 1}'}


async def test_a_nul_in_an_id_is_refused_as_usage(store: PostgresAuthStore) -> None:
    with pytest.raises(UsageError):
        await store.set_keys(ACME, {"session": {"a\0": b"1"}})
    with pytest.raises(UsageError):
        await store.get_keys(ACME, "session", ["a\0"])


async def test_large_batches_and_values(store: PostgresAuthStore) -> None:
    """A first upload of 812 pre-keys and a session of 500 KB pass."""
    pre_keys = {str(number): b'{"type":"Buffer","data":"%b"}' % (b"A" * 160) for number in range(812)}
    session = b'{"type":"Buffer","data":"%b"}' % (b"QUJD" * 125_000)
    await store.set_keys(ACME, {"pre-key": pre_keys, "session": {"1.0": session}})
    assert len(await store.get_keys(ACME, "pre-key", list(pre_keys))) == 812
    found = await store.get_keys(ACME, "session", ["1.0"])
    assert json.loads(found["1.0"]) == json.loads(session)


async def test_batches_sent_without_waiting_are_applied_in_call_order(store: PostgresAuthStore) -> None:
    writes = [store.set_keys(ACME, {"session": {"1": b"%d" % number}}) for number in range(60)]
    others = [store.set_keys(OTHER, {"session": {"1": b"%d" % number}}) for number in range(60)]
    await asyncio.gather(*writes, *others)
    assert await value_of(store, "session", "1") == 59
    assert await value_of(store, "session", "1", OTHER) == 59


async def test_clear_and_remove_say_what_there_was(store: PostgresAuthStore) -> None:
    await store.create_creds(ACME, made_up_creds(IDENTITY))
    await store.set_keys(ACME, {"session": {"1": b"1", "2": b"2"}})
    assert await store.clear_keys(ACME) == 2
    assert await store.clear_keys(ACME) == 0
    assert await store.load_creds(ACME) is not None
    assert await store.remove(ACME) is True
    assert await store.remove(ACME) is False
    assert await store.load_creds(ACME) is None


async def test_a_company_can_be_paired_again_after_removal(store: PostgresAuthStore) -> None:
    await store.create_creds(ACME, made_up_creds(IDENTITY))
    await store.remove(ACME)
    await store.create_creds(ACME, made_up_creds(b"\x02" * 32))
    await store.save_creds(ACME, made_up_creds(b"\x02" * 32, nextPreKeyId=5))


async def test_the_newer_of_two_writers_fences_the_older(database: Database) -> None:
    """Two processes that hold one company cannot mix their writes: the former writer is told, until it reads anew."""
    older, newer = PostgresAuthStore(database), PostgresAuthStore(database)
    await older.set_keys(ACME, {"session": {"1": b"1"}})
    await newer.set_keys(ACME, {"session": {"1": b"2"}})
    for _ in range(2):
        with pytest.raises(CompanyInUse):
            await older.set_keys(ACME, {"session": {"1": b"3"}})
    assert await value_of(older, "session", "1") == 2
    await older.load_creds(ACME)  # what a client does that opens the company again
    await older.set_keys(ACME, {"session": {"1": b"4"}})
    with pytest.raises(CompanyInUse):
        await newer.set_keys(ACME, {"session": {"1": b"5"}})
    assert await value_of(newer, "session", "1") == 4


async def test_an_import_beside_a_running_store_is_no_obstacle_to_it(database: Database) -> None:
    """Another process installed the company since; opening it again, and removing it, take it over."""
    running, importing = PostgresAuthStore(database), PostgresAuthStore(database)
    await running.set_keys(ACME, {"session": {"1": b"1"}})
    await importing.install(ACME, made_up_creds(IDENTITY), {})
    assert await running.load_creds(ACME) is not None
    await running.set_keys(ACME, {"session": {"1": b"2"}})
    await importing.install(ACME, made_up_creds(IDENTITY), {}, replace=True)
    assert await running.remove(ACME)


async def test_a_write_that_was_given_up_never_lands_after_a_later_one(
    database_options: DatabaseOptions,
) -> None:
    """A stalled server that resumes executes what waits in its socket; the store's writes do not come late by it."""
    options = replace(database_options, max_connections=1, statement_timeout_s=0.4)
    async with Database(options) as stalled, Database(database_options) as observer:
        store = PostgresAuthStore(stalled)
        # Often enough that the statement is prepared: then all of it goes to the server in one piece.
        for _ in range(4):
            await store.set_keys(ACME, {"session": {"1": b'"first"', "gone": b"1"}})
        async with stopped_backend(stalled, observer):
            with pytest.raises(DatabaseUnavailable):
                await store.set_keys(ACME, {"session": {"1": b'"late"', "gone": b"1"}})
            await store.set_keys(ACME, {"session": {"1": b'"later"', "gone": None}})
        assert await store.get_keys(ACME, "session", ["1", "gone"]) == {"1": b'"later"'}


async def test_the_hazard_of_writes_that_come_late_is_real(database_options: DatabaseOptions) -> None:
    """Without the store's guard, a statement is executed after its client has given up: the test above can fail."""
    options = replace(database_options, max_connections=1, statement_timeout_s=0.4)
    async with Database(options) as stalled, Database(database_options) as observer:
        await observer.fetch(sql("create table unguarded (id int)"))
        async with stopped_backend(stalled, observer):
            with pytest.raises(DatabaseUnavailable):
                await stalled.fetch(sql("insert into unguarded values (1)"))
            assert await observer.fetch(sql("select count(*) from unguarded")) == [(0,)]
        assert await observer.fetch(sql("select count(*) from unguarded")) == [(1,)]


@contextlib.asynccontextmanager
async def stopped_backend(database: Database, observer: Database) -> AsyncIterator[None]:
    """The only backend of `database` does not run within the block; after it, what waited for it has been executed."""
    pid = (await database.fetch(sql("select pg_backend_pid()")))[0][0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: _gone(observer, pid))


async def _gone(observer: Database, pid: int) -> bool:
    return not await observer.fetch(sql("select 1 from pg_stat_activity where pid = $1"), [pid])


async def test_an_answer_that_was_lost_is_not_a_second_write(
    postgres_server: EmbeddedServer, database_options: DatabaseOptions
) -> None:
    """The connection breaks after the commit: the retry finds the write applied and returns the same count."""
    tcp = replace(postgres_server.tcp_options, dbname=database_options.dbname, max_connections=1)
    async with (
        Proxy.before("127.0.0.1", tcp.port or 0) as proxy,
        Database(database_options) as observer,
        Database(replace(tcp, port=proxy.port)) as database,
    ):
        store = PostgresAuthStore(database)
        await store.set_keys(ACME, {"session": {"1": b"1", "2": b"2"}})
        proxy.mute = True
        clearing = asyncio.create_task(store.clear_keys(ACME))
        await until(lambda: _empty(observer))
        await observer.fetch(sql("insert into whatsapp_keys values ($1, 'session', '9', '9')"), [ACME])
        proxy.mute = False
        await proxy.cut()
        assert await clearing == 2
        assert await value_of(store, "session", "9") == 9


async def _empty(observer: Database) -> bool:
    return await observer.fetch(sql("select count(*) from whatsapp_keys")) == [(0,)]


async def test_writes_behind_one_that_hangs_are_told_in_time(database_options: DatabaseOptions) -> None:
    """A queue of writes behind a locked row does not grow without bound: each call has its own deadline."""
    options = replace(
        database_options, statement_timeout_s=0.3, checkout_timeout_s=0.3, connect_timeout_s=0.3
    )
    async with Database(options) as database, Database(database_options) as blocker:
        store = PostgresAuthStore(database)
        await store.set_keys(ACME, {"session": {"1": b"1"}})
        async with blocker.transaction("block", 20) as connection:
            await connection.execute("select * from standfast_writers for update")
            writes = [store.set_keys(ACME, {"session": {"1": b"%d" % n}}) for n in range(10)]
            async with asyncio.timeout(5):
                outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
        await store.set_keys(ACME, {"session": {"1": b"99"}})
        assert await value_of(store, "session", "1") == 99


async def test_snapshot_and_install_move_a_whole_company(store: PostgresAuthStore) -> None:
    assert await store.snapshot(ACME) is None
    await store.install(ACME, made_up_creds(IDENTITY), {"session": {"1": b"1"}, "pre-key": {"1": b"2"}})
    taken = await store.snapshot(ACME)
    assert taken is not None
    assert json.loads(taken.creds) == json.loads(made_up_creds(IDENTITY))
    assert taken.keys == {"session": {"1": b"1"}, "pre-key": {"1": b"2"}}
    with pytest.raises(CompanyInUse):
        await store.install(ACME, made_up_creds(IDENTITY), {})
    assert await value_of(store, "session", "1") == 1
    await store.install(ACME, made_up_creds(IDENTITY), {"session": {"2": b"2"}}, replace=True)
    taken = await store.snapshot(ACME)
    assert taken is not None
    assert taken.keys == {"session": {"2": b"2"}}
    assert await store.companies() == ["acme"]


async def test_install_is_all_or_nothing(store: PostgresAuthStore) -> None:
    with pytest.raises(DatabaseRejected):
        await store.install(ACME, made_up_creds(IDENTITY), {"session": {"1": b"1", "2": b"torn"}})
    assert await store.snapshot(ACME) is None
    assert await store.get_keys(ACME, "session", ["1"]) == {}


async def test_expired_rows_still_count(store: PostgresAuthStore, database: Database) -> None:
    """The legacy column expires_at hides nothing; a key that is written again has no expiry."""
    await store.set_keys(ACME, {"session": {"1": b"1"}})
    await database.fetch(sql("update whatsapp_keys set expires_at = now() - interval '1 day'"))
    assert await value_of(store, "session", "1") == 1
    await store.set_keys(ACME, {"session": {"1": b"2"}})
    assert await database.fetch(sql("select expires_at from whatsapp_keys")) == [(None,)]
