"""Changes reach PostgreSQL wholly, once, in order, and under the newest epoch only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from standfast.authstate.change import Change
from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse, DatabaseRejected, DatabaseUnavailable, StandfastError
from standfast.postgres.leases import Leases
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.replication import Delivered, Delivery, Replication
from standfast.postgres.store import PostgresAuthStore
from tests.support import Proxy, made_up_creds, until

ACME, OTHER, THIRD = company_id("acme"), company_id("other"), company_id("third")
NODE = str(uuid.UUID(int=1))
APPLIED_1 = Delivered("applied", 1)


def sql(text: str) -> Statement:
    return Statement("test", text)


@pytest.fixture
def replication(database: Database) -> Replication:
    return Replication(database)


@pytest.fixture
async def epoch(database: Database) -> int:
    return await new_epoch(database)


async def new_epoch(database: Database, company: Company = ACME) -> int:
    got = await Leases(database).acquire(company, NODE, 0, create=True)
    assert got.outcome == "acquired"
    return got.epoch


def delivery(epoch: int, first: int, last: int | None = None, company: Company = ACME) -> Delivery:
    """A change that says which one it is: it sets the key `1` to its last number."""
    last = last or first
    return Delivery(company, epoch, first, last, Change(keys={"session": {"1": b"%d" % last}}))


async def deliver(replication: Replication, *deliveries: Delivery) -> Delivered | StandfastError:
    return (await replication.deliver(deliveries))[0]


async def state(replication: Replication, company: Company = ACME) -> dict[tuple[str, str], object] | None:
    """All that PostgreSQL has of the company, creds under ("", ""); None where it has nothing."""
    found: dict[tuple[str, str], object] = {}
    async with aclosing(replication.stream(company)) as chunks:
        async for chunk in chunks:
            found |= {(key_type or "", key_id or ""): json.loads(value) for key_type, key_id, value in chunk}
    return found or None


async def test_changes_are_applied_in_order_and_once(replication: Replication, epoch: int) -> None:
    """What comes again is known already, what leaves a gap is refused, what overlaps is told where to go on."""
    assert await deliver(replication, delivery(epoch, 1)) == APPLIED_1
    assert await deliver(replication, delivery(epoch, 2, 4)) == Delivered("applied", 4)
    assert await deliver(replication, delivery(epoch, 1)) == Delivered("applied", 4)
    assert await deliver(replication, delivery(epoch, 2, 4)) == Delivered("applied", 4)
    assert await deliver(replication, delivery(epoch, 3, 6)) == Delivered("partly", 4)
    assert await deliver(replication, delivery(epoch, 6)) == Delivered("behind", 4)
    assert await state(replication) == {("session", "1"): 4}
    assert await deliver(replication, delivery(epoch, 5, 6)) == Delivered("applied", 6)
    assert await state(replication) == {("session", "1"): 6}


async def test_every_part_of_a_change_arrives(replication: Replication, epoch: int) -> None:
    """In its order: all keys cleared, creds replaced, keys set and deleted."""
    first = Change(creds=b'{"n": 1}', keys={"session": {"a": b"1", "b": b"2"}, "pre-key": {"a": b'"x"'}})
    assert await deliver(replication, Delivery(ACME, epoch, 1, 1, first)) == APPLIED_1
    second = Change(keys={"session": {"a": None, "b": b"22", "absent": None}, "new": {"/:": b"[]"}})
    await deliver(replication, Delivery(ACME, epoch, 2, 2, second))
    expected = {("", ""): {"n": 1}, ("session", "b"): 22, ("pre-key", "a"): "x", ("new", "/:"): []}
    assert await state(replication) == expected
    third = Change(cleared=True, creds=b'{"n": 2}', keys={"session": {"c": b"3"}})
    await deliver(replication, Delivery(ACME, epoch, 3, 3, third))
    assert await state(replication) == {("", ""): {"n": 2}, ("session", "c"): 3}


async def test_a_former_epoch_is_fenced(replication: Replication, database: Database, epoch: int) -> None:
    """Its changes and whole states alike, also before the newer one has written anything."""
    await deliver(replication, delivery(epoch, 1))
    newer = await new_epoch(database)
    for late in (delivery(epoch, 2), replace(delivery(epoch, 2), whole=True)):
        assert await deliver(replication, late) == Delivered("fenced", 1)
    assert await deliver(replication, delivery(newer, 2)) == Delivered("applied", 2)
    assert await state(replication) == {("session", "1"): 2}


async def test_a_database_that_went_back_is_noticed_and_made_whole(
    replication: Replication, database: Database, epoch: int
) -> None:
    """Older rows are put back under the same epoch, under an older one, and not at all: each is "behind", until the
    whole state is delivered."""
    await deliver(replication, delivery(epoch, 1))
    for table in ("standfast_writers", "whatsapp_keys", "whatsapp_auth"):
        await database.fetch(sql(f"create table old_{table} as select * from {table}"))
    await deliver(replication, delivery(epoch, 2, 5))
    for spoil in ("epoch = epoch", "epoch = epoch - 7"):
        await database.fetch(sql("delete from standfast_writers"))
        await database.fetch(sql("insert into standfast_writers select * from old_standfast_writers"))
        await database.fetch(sql(f"update standfast_writers set {spoil}"))
        assert await deliver(replication, delivery(epoch, 6)) == Delivered("behind", 1)
    await database.fetch(sql("delete from standfast_writers"))
    assert await deliver(replication, delivery(epoch, 6)) == Delivered("behind", 0)
    await database.fetch(sql("insert into whatsapp_keys values ('acme', 'session', 'stale', '0')"))
    again = await Leases(database).acquire(ACME, NODE, epoch, create=True)
    assert again.relation == "behind"
    whole = Change(cleared=True, creds=b"{}", keys={"session": {"1": b"6"}})
    assert await deliver(replication, Delivery(ACME, again.epoch, 7, 6, whole, whole=True)) == Delivered(
        "applied", 6
    )
    assert await state(replication) == {("", ""): {}, ("session", "1"): 6}
    assert await deliver(replication, delivery(again.epoch, 7)) == Delivered("applied", 7)


async def test_a_whole_state_that_comes_again_undoes_nothing(replication: Replication, epoch: int) -> None:
    """A repetition of a whole state, after later changes, is known already; one of a later moment is taken."""
    whole = replace(delivery(epoch, 1, 10), whole=True)
    assert await deliver(replication, whole) == Delivered("applied", 10)
    await deliver(replication, delivery(epoch, 11))
    assert await deliver(replication, whole) == Delivered("applied", 11)
    assert await state(replication) == {("session", "1"): 11}
    later = Delivery(ACME, epoch, 1, 12, Change(creds=b"{}"), whole=True)
    assert await deliver(replication, later) == Delivered("applied", 12)
    assert await state(replication) == {("", ""): {}}
    assert await deliver(replication, Delivery(ACME, epoch, 1, 13, Change(), whole=True)) == Delivered(
        "applied", 13
    )
    assert await state(replication) is None


async def test_many_companies_travel_together_and_each_for_itself(
    replication: Replication, database: Database
) -> None:
    """Among 150 companies one is fenced, one behind, one refused for its value: each is told so; the rest arrive."""
    companies = [company_id(f"c{number:03}") for number in range(150)]
    epochs = await asyncio.gather(*(new_epoch(database, company) for company in companies))
    deliveries = [delivery(e, 1, company=c) for c, e in zip(companies, epochs, strict=True)]
    deliveries[0].first = deliveries[0].last = 3
    deliveries[70].epoch -= 1
    deliveries[71].change = Change(creds=b"{}", keys={"session": {"1": b"1", "2": b'"\\u0000"'}})
    results = await replication.deliver(list(reversed(deliveries)))
    results.reverse()
    assert results[0] == Delivered("behind", 0)
    assert results[70] == Delivered("fenced", 0)
    assert isinstance(results[71], DatabaseRejected)
    assert results[71].facts["cause"] == "value"
    assert {number for number, result in enumerate(results) if result != APPLIED_1} == {0, 70, 71}
    assert await state(replication, companies[71]) is None
    assert await database.fetch(sql("select count(*) from whatsapp_keys")) == [(147,)]


async def test_a_locked_company_holds_up_no_other(
    replication: Replication, database: Database, epoch: int
) -> None:
    """Somebody's open transaction holds its row: that one is an error soon, though PostgreSQL is there."""
    other = await new_epoch(database, OTHER)
    async with database.transaction("hold", 20) as connection:
        await connection.execute("select 1 from standfast_writers where company_id = 'acme' for update")
        locked, free = await replication.deliver([delivery(epoch, 1), delivery(other, 1, company=OTHER)])
    assert isinstance(locked, DatabaseUnavailable)
    assert free == APPLIED_1
    assert await deliver(replication, delivery(epoch, 1)) == APPLIED_1


async def test_an_unreachable_server_is_raised_for_all(
    tcp_options: DatabaseOptions, database: Database, epoch: int
) -> None:
    options = replace(tcp_options, checkout_timeout_s=0.3, connect_timeout_s=0.3)
    async with (
        Proxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        Database(replace(options, port=proxy.port)) as away,
    ):
        await proxy.close()
        with pytest.raises(DatabaseUnavailable) as caught:
            await Replication(away).deliver([delivery(epoch, 1), delivery(1, 1, company=OTHER)])
    assert caught.value.facts["cause"] == "refused"
    assert await state(Replication(database)) is None


async def test_an_answer_that_was_lost_is_not_a_second_delivery(
    tcp_options: DatabaseOptions, database: Database, epoch: int
) -> None:
    """Cut after the commit: the caller is told a failure, repeats, and hears that it is applied."""
    async with (
        Proxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        Database(replace(tcp_options, port=proxy.port, max_connections=1)) as away,
    ):
        replication, observer = Replication(away), Replication(database)
        for sequence in range(1, 5):  # often enough that the statement is prepared, and travels in one piece
            await deliver(replication, delivery(epoch, sequence))
        proxy.mute = True
        delivering = asyncio.create_task(deliver(replication, delivery(epoch, 5, 6)))
        await until(lambda: _has(observer, {("session", "1"): 6}))
        proxy.mute = False
        await proxy.cut()
        with pytest.raises(DatabaseUnavailable):
            await delivering
        assert await deliver(replication, delivery(epoch, 5, 6)) == Delivered("applied", 6)


async def _has(replication: Replication, expected: dict[tuple[str, str], object]) -> bool:
    return await state(replication) == expected


async def test_a_stalled_server_that_delivers_late_harms_nothing(
    database: Database, database_options: DatabaseOptions, epoch: int
) -> None:
    """It wakes after later changes have been delivered by other connections: a change and a whole state that waited
    in its socket do nothing."""
    options = replace(database_options, max_connections=1, statement_timeout_s=0.3)
    observer = Replication(database)
    for whole in (False, True):
        sequence = await sequence_of(database)
        async with Database(options) as stalling:
            stalled = Replication(stalling)
            for _ in range(
                4
            ):  # often enough that the statement is prepared, and goes to the server in one piece
                sequence += 1
                await deliver(stalled, delivery(epoch, sequence))
            async with stopped_backend(stalling, database):
                late = replace(delivery(epoch, sequence + 1), whole=whole)
                with pytest.raises(DatabaseUnavailable):
                    await deliver(stalled, late)
                await deliver(observer, delivery(epoch, sequence + 1, sequence + 2))
        assert await sequence_of(database) == sequence + 2
        assert await state(observer) == {("session", "1"): sequence + 2}


async def sequence_of(database: Database) -> int:
    rows = await database.fetch(sql("select sequence from standfast_writers where company_id = 'acme'"))
    return int(rows[0][0])


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


async def test_a_large_state_passes_where_small_statements_have_little_time(
    database_options: DatabaseOptions, database: Database, epoch: int
) -> None:
    """Deadlines grow with the size: 20 MB through a server that ends statements after 0.3 s, and back."""
    value = b'"%b"' % (b"abcdefgh" * 25_000)
    change = Change(creds=b"{}", keys={"session": {str(n): value for n in range(100)}})
    async with Database(replace(database_options, statement_timeout_s=0.3)) as hasty:
        done = await deliver(Replication(hasty), Delivery(ACME, epoch, 1, 1, change, whole=True))
        assert done == APPLIED_1
        async with aclosing(Replication(hasty).stream(ACME)) as chunks:
            sizes = [sum(len(value) for _, _, value in chunk) async for chunk in chunks]
    assert sum(sizes) == 100 * len(value) + 2
    assert len(sizes) > 10, "it comes in pieces"


async def test_a_stream_is_of_one_moment(replication: Replication, database: Database, epoch: int) -> None:
    """Creds first; a change that is applied while it is read is not in it, no row of it."""
    keys: dict[str, bytes | None] = {str(n): b"0" for n in range(3000)}
    await deliver(replication, Delivery(ACME, epoch, 1, 1, Change(creds=b'{"n": 0}', keys={"session": keys})))
    seen = []
    async with aclosing(replication.stream(ACME)) as chunks:
        seen += await anext(chunks)
        changed = Change(creds=b'{"n": 1}', keys={"session": dict.fromkeys(keys, b"1")})
        assert await deliver(replication, Delivery(ACME, epoch, 2, 2, changed)) == Delivered("applied", 2)
        async for chunk in chunks:
            seen += chunk
    assert seen[0] == (None, None, b'{"n": 0}')
    assert {value for _, _, value in seen[1:]} == {b"0"}
    assert len(seen) == 3001


async def test_a_stream_that_is_left_early_frees_its_connection(
    database_options: DatabaseOptions, database: Database, epoch: int
) -> None:
    keys: dict[str, bytes | None] = {str(n): b'"%b"' % (b"x" * 500) for n in range(5000)}
    change = Change(creds=b"{}", keys={"session": keys})
    await deliver(Replication(database), Delivery(ACME, epoch, 1, 1, change))
    async with Database(replace(database_options, max_connections=1)) as narrow:
        for _ in range(3):
            async with aclosing(Replication(narrow).stream(ACME)) as chunks:
                assert await anext(chunks)
        await narrow.ping()


async def test_a_stream_that_breaks_is_an_error_not_an_end(
    tcp_options: DatabaseOptions, database: Database, epoch: int
) -> None:
    """A read error is not an absence, at any point of it."""
    keys: dict[str, bytes | None] = {str(n): b'"%b"' % (b"x" * 5000) for n in range(5000)}
    await deliver(
        Replication(database), Delivery(ACME, epoch, 1, 1, Change(creds=b"{}", keys={"session": keys}))
    )
    async with (
        Proxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        Database(replace(tcp_options, port=proxy.port)) as away,
    ):
        async with aclosing(Replication(away).stream(ACME)) as chunks:
            await anext(chunks)
            await proxy.close()
            with pytest.raises(DatabaseUnavailable):
                async for _ in chunks:
                    pass
        with pytest.raises(DatabaseUnavailable):
            await state(Replication(away))


async def test_a_stream_is_left_at_once_though_the_network_is_silent(
    tcp_options: DatabaseOptions, database: Database, epoch: int
) -> None:
    """Nobody waits for a server to consent to being asked no more."""
    keys: dict[str, bytes | None] = {str(n): b'"%b"' % (b"x" * 5000) for n in range(5000)}
    await deliver(
        Replication(database), Delivery(ACME, epoch, 1, 1, Change(creds=b"{}", keys={"session": keys}))
    )
    async with (
        Proxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        Database(replace(tcp_options, port=proxy.port)) as away,
    ):
        chunks = Replication(away).stream(ACME)
        await anext(chunks)
        proxy.flowing.clear()
        async with asyncio.timeout(1):
            await chunks.aclose()
        proxy.flowing.set()


async def test_absence_is_an_empty_stream(replication: Replication) -> None:
    assert await state(replication, THIRD) is None


async def test_removal_takes_its_turn(replication: Replication, database: Database, epoch: int) -> None:
    """Creds and keys go under the epoch that holds the company; under a former one nothing does."""
    await deliver(
        replication, Delivery(ACME, epoch, 1, 1, Change(creds=b"{}", keys={"session": {"1": b"1"}}))
    )
    assert await replication.remove(ACME, epoch, 2)
    assert await state(replication) is None
    newer = await new_epoch(database)
    await deliver(replication, delivery(newer, 3))
    with pytest.raises(CompanyInUse):
        await replication.remove(ACME, epoch, 4)
    assert await state(replication) == {("session", "1"): 3}


async def test_what_is_delivered_is_what_a_store_reads(
    replication: Replication, database: Database, store: PostgresAuthStore
) -> None:
    """Both write the same tables; legacy rows with an expiry lose it when they are written again."""
    await store.create_creds(ACME, made_up_creds())
    await store.set_keys(ACME, {"session": {"1": b"1"}})
    await database.fetch(sql("update whatsapp_keys set expires_at = now()"))
    got = await Leases(database).acquire(ACME, NODE, 0)
    assert got.sequence == 2
    await deliver(replication, delivery(got.epoch, 3))
    assert await store.get_keys(ACME, "session", ["1"]) == {"1": b"3"}
    assert await database.fetch(sql("select expires_at from whatsapp_keys")) == [(None,)]
