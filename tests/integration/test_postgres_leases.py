"""One owner for each company, held by heartbeats in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from dataclasses import replace

import pytest

from standfast.authstate.change import Change
from standfast.authstate.company import company_id
from standfast.errors import CompanyInUse, DatabaseRejected, DatabaseUnavailable
from standfast.postgres.leases import Acquired, Leases
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.replication import Delivery, Replication
from standfast.postgres.store import PostgresAuthStore
from tests.support import Proxy, made_up_creds, until

ACME = company_id("acme")
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
TTL_S = 30.0


def sql(text: str) -> Statement:
    return Statement("test", text)


@pytest.fixture
async def leases(database: Database) -> Leases:
    """Both nodes are alive, and the company exists."""
    leases = Leases(database)
    await leases.heartbeat(ONE, "one", TTL_S)
    await leases.heartbeat(TWO, "two", TTL_S)
    await PostgresAuthStore(database).create_creds(ACME, made_up_creds())
    return leases


async def acquired(leases: Leases, node: str, known: int = 0) -> Acquired:
    got = await leases.acquire(ACME, node, known)
    assert got.outcome == "acquired"
    return got


async def kill(database: Database, node: str) -> None:
    """Its heartbeats have stopped for longer than they promised."""
    await database.fetch(
        sql("update standfast_nodes set alive_until = now() - interval '1 ms' where node = $1::uuid"), [node]
    )


async def write(database: Database, epoch: int, sequence: int) -> None:
    change = Change(keys={"session": {"1": b"%d" % sequence}})
    (done,) = await Replication(database).deliver([Delivery(ACME, epoch, sequence, sequence, change)])
    assert getattr(done, "outcome", done) == "applied"


async def sequence_of(database: Database) -> int:
    rows = await database.fetch(sql("select sequence from standfast_writers where company_id = $1"), [ACME])
    return int(rows[0][0])


async def test_one_of_two_living_nodes_holds_a_company(leases: Leases) -> None:
    """The other is told who does, and for how long without another sign of life; after a release it is let in."""
    first = await acquired(leases, ONE)
    refused = await leases.acquire(ACME, TWO, 0)
    assert (refused.outcome, refused.holder, refused.epoch) == ("held", "one", first.epoch)
    assert refused.holder_for_s is not None
    assert TTL_S - 10 < refused.holder_for_s <= TTL_S
    assert await leases.held(ONE) == {ACME: first.epoch}
    await leases.release(ACME, first.epoch)
    second = await acquired(leases, TWO)
    assert second.epoch > first.epoch
    await leases.release(ACME, first.epoch)
    assert await leases.held(TWO) == {ACME: second.epoch}, "a release that comes late releases nothing"


async def test_nodes_that_contend_get_one_winner(leases: Leases) -> None:
    """Ten acquisitions at once: all of one node succeed, each with another epoch, and none of the other's."""
    outcomes = await asyncio.gather(*(leases.acquire(ACME, node, 0) for node in [ONE, TWO] * 5))
    winners = [got for got in outcomes if got.outcome == "acquired"]
    assert winners
    assert len({got.epoch for got in winners}) == len(winners)
    held = {name: got for got in outcomes if got.outcome == "held" and (name := got.holder)}
    assert len(held) == 1
    assert sum(got.outcome == "held" for got in outcomes) == 5


async def test_a_dead_nodes_company_is_taken_over_and_it_learns_so(
    leases: Leases, database: Database
) -> None:
    """Only a node that is past its time; its revision grows, and its return does not bring the company back."""
    first = await acquired(leases, ONE)
    before = (await leases.heartbeat(ONE, "one", TTL_S)).revision
    await kill(database, ONE)
    second = await acquired(leases, TWO)
    assert second.epoch > first.epoch
    assert (await leases.heartbeat(ONE, "one", TTL_S)).revision == before + 1
    assert await leases.held(ONE) == {}
    assert (await leases.acquire(ACME, ONE, first.epoch)).outcome == "held"


async def test_a_company_can_be_taken_by_force(leases: Leases) -> None:
    await acquired(leases, ONE)
    before = (await leases.heartbeat(ONE, "one", TTL_S)).revision
    forced = await leases.acquire(ACME, TWO, 0, force=True)
    assert forced.outcome == "acquired"
    assert (await leases.heartbeat(ONE, "one", TTL_S)).revision == before + 1


async def test_absence_is_confirmed_and_writes_nothing(leases: Leases, database: Database) -> None:
    """A company without creds is leased only where it is to be created."""
    other = company_id("other")
    assert (await leases.acquire(other, ONE, 0)).outcome == "absent"
    assert await database.fetch(sql("select 1 from standfast_writers where company_id = 'other'")) == []
    assert (await leases.acquire(other, ONE, 0, create=True)).outcome == "acquired"


async def test_a_restart_continues_where_nobody_else_wrote(leases: Leases, database: Database) -> None:
    """The same node acquires anew though its lease still runs, learns how far PostgreSQL is, and has a new epoch."""
    first = await acquired(leases, ONE)
    await write(database, first.epoch, 2)
    again = await acquired(leases, ONE, first.epoch)
    assert (again.relation, again.sequence) == ("continued", 2)
    assert again.epoch > first.epoch
    await leases.release(ACME, again.epoch)
    assert (await acquired(leases, ONE, again.epoch)).relation == "continued"


async def test_an_answer_that_was_lost_does_not_look_like_another_writer(
    leases: Leases, database: Database
) -> None:
    """The node never heard of two of its epochs: nothing was written under them, so its replica is current. Once
    something was, it is not."""
    first = await acquired(leases, ONE)
    await write(database, first.epoch, 2)
    await acquired(leases, ONE, first.epoch)
    unheard = await acquired(leases, ONE, first.epoch)
    assert unheard.relation == "continued"
    await write(database, unheard.epoch, 3)
    assert (await acquired(leases, ONE, first.epoch)).relation == "superseded"


async def test_who_took_over_without_writing_has_still_taken_over(leases: Leases, database: Database) -> None:
    first = await acquired(leases, ONE)
    second = await acquired_after_death(leases, database, ONE, TWO)
    await leases.release(ACME, second.epoch)
    assert (await acquired(leases, ONE, first.epoch)).relation == "superseded"
    assert (await acquired(leases, ONE, second.epoch - 1)).relation == "superseded"


async def acquired_after_death(leases: Leases, database: Database, dead: str, node: str) -> Acquired:
    await kill(database, dead)
    return await acquired(leases, node)


async def test_a_database_that_went_back_is_behind(leases: Leases, database: Database) -> None:
    """Older rows are put back: the epoch that the node knows is beyond PostgreSQL's. The next one is beyond both,
    and so is one given to another node, which can therefore never be taken for the former."""
    await database.fetch(sql("create table copy as select * from standfast_writers"))
    first = await acquired(leases, ONE)
    await database.fetch(sql("delete from standfast_writers"))
    gone = await acquired(leases, ONE, first.epoch)
    assert gone.relation == "behind"
    assert gone.epoch > first.epoch
    await database.fetch(sql("delete from standfast_writers"))
    await database.fetch(sql("insert into standfast_writers select * from copy"))
    other = await acquired(leases, TWO)
    assert other.epoch > gone.epoch
    await leases.release(ACME, other.epoch)
    future = other.epoch + 10_000_000
    back = await acquired(leases, ONE, future)
    assert back.relation == "behind"
    assert back.epoch > future


async def test_a_store_without_a_lease_respects_it(leases: Leases, database: Database) -> None:
    """A command cannot write what a living node holds; what it writes otherwise is never taken for the node's own."""
    store = PostgresAuthStore(database)
    first = await acquired(leases, ONE)
    for attempt in (store.set_keys(ACME, {"session": {"1": b"1"}}), store.remove(ACME)):
        with pytest.raises(CompanyInUse, match="'one'"):
            await attempt
    await write(database, first.epoch, await sequence_of(database) + 1)
    await leases.release(ACME, first.epoch)
    before = await sequence_of(database)
    await store.install(ACME, made_up_creds(), {"session": {"1": b"2"}}, replace=True)
    assert await sequence_of(database) == before + 1, "the sequence does not begin anew"
    got = await acquired(leases, ONE, first.epoch)
    assert (got.relation, got.sequence) == ("superseded", before + 1)


async def test_a_store_takes_over_from_a_dead_node(leases: Leases, database: Database) -> None:
    first = await acquired(leases, ONE)
    before = (await leases.heartbeat(ONE, "one", TTL_S)).revision
    await kill(database, ONE)
    await PostgresAuthStore(database).set_keys(ACME, {"session": {"1": b"1"}})
    assert (await leases.heartbeat(ONE, "one", TTL_S)).revision == before + 1
    assert (await acquired(leases, ONE, first.epoch)).relation == "superseded"


async def test_former_versions_respect_a_lease_too(leases: Leases, database: Database) -> None:
    """A process from before the migration claims by the old function: refused while leased, superseding otherwise."""
    first = await acquired(leases, ONE)
    with pytest.raises(DatabaseRejected):
        await database.fetch(sql("select standfast_claim('acme')"))
    await leases.release(ACME, first.epoch)
    ((epoch,),) = await database.fetch(sql("select standfast_claim('acme')"))
    await database.fetch(
        sql("select standfast_set_keys('acme', $1, 1, '{}', '{}', '{}', '{}', '{}')"), [epoch]
    )
    assert (await acquired(leases, ONE, first.epoch)).relation == "superseded"


async def test_a_copied_state_directory_is_noticed(leases: Leases, database: Database) -> None:
    """Two processes of one node: each heartbeat tells both, and the one that acquired first is fenced off."""
    clone = Leases(database, instance=str(uuid.uuid4()))
    first = await acquired(leases, ONE)
    before = await leases.heartbeat(ONE, "one", TTL_S)
    assert not before.shared
    assert (await clone.heartbeat(ONE, "one", TTL_S)).revision > before.revision
    noticed = await leases.heartbeat(ONE, "one", TTL_S)
    assert noticed.shared
    assert noticed.revision > before.revision
    second = await acquired(clone, ONE, first.epoch)
    assert (await leases.held(ONE))[ACME] == second.epoch != first.epoch
    change = Change(keys={"session": {"1": b"1"}})
    (done,) = await Replication(database).deliver([Delivery(ACME, first.epoch, 2, 2, change)])
    assert getattr(done, "outcome", done) == "fenced"


async def test_a_database_that_was_set_up_anew_shares_nobody(leases: Leases, database: Database) -> None:
    """Where no row of the node is found any more, no other process has spoken for it."""
    await leases.heartbeat(ONE, "one", TTL_S)
    await database.fetch(sql("delete from standfast_nodes"))
    assert not (await leases.heartbeat(ONE, "one", TTL_S)).shared


async def test_leaving_gives_everything_back_at_once(leases: Leases, database: Database) -> None:
    """Also for the next process of the node; a leave of a former one that comes late takes nothing away."""
    await acquired(leases, ONE)
    await leases.leave(ONE)
    assert await leases.held(ONE) == {}
    await acquired(leases, TWO)
    await Leases(database, instance=str(uuid.uuid4())).heartbeat(TWO, "two", TTL_S)
    await leases.leave(TWO)
    assert ACME in await leases.held(TWO)


async def test_an_acquisition_that_was_given_up_fences_nobody(
    leases: Leases, database: Database, database_options: DatabaseOptions
) -> None:
    """A stalled server executes it after the node has acquired by another connection: that one's epoch stands."""
    first = await acquired(leases, ONE)
    options = replace(database_options, max_connections=1, statement_timeout_s=0.3)
    async with Database(options) as stalled:
        patient = Leases(stalled)
        for _ in range(3):  # often enough that the statement is prepared, and goes to the server in one piece
            first = await acquired(patient, ONE, first.epoch)
        pid = (await stalled.fetch(sql("select pg_backend_pid()")))[0][0]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await patient.acquire(ACME, ONE, first.epoch)
            standing = await acquired(leases, ONE, first.epoch)
            assert standing.relation == "continued"
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: _gone(database, pid))
    assert await leases.held(ONE) == {ACME: standing.epoch}


async def _gone(database: Database, pid: int) -> bool:
    return not await database.fetch(sql("select 1 from pg_stat_activity where pid = $1"), [pid])


async def test_an_acquisition_whose_answer_is_lost_is_repeated_rightly(
    leases: Leases, tcp_options: DatabaseOptions
) -> None:
    """The connection breaks after the commit; the retry by itself finds the node's own epoch and goes on from it."""
    first = await acquired(leases, ONE)
    async with (
        Proxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        Database(replace(tcp_options, port=proxy.port, max_connections=1)) as database,
    ):
        away = Leases(database)
        await away.held(ONE)
        proxy.mute = True
        acquiring = asyncio.create_task(away.acquire(ACME, ONE, first.epoch))
        await until(lambda: _moved(leases, first.epoch))
        proxy.mute = False
        await proxy.cut()
        got = await acquiring
    assert (got.outcome, got.relation) == ("acquired", "continued")
    assert await leases.held(ONE) == {ACME: got.epoch}


async def _moved(leases: Leases, epoch: int) -> bool:
    return (await leases.held(ONE))[ACME] != epoch


async def test_the_database_has_an_identity(leases: Leases, database: Database) -> None:
    """Every heartbeat tells the same one; without it nothing is confirmed."""
    told = {(await leases.heartbeat(node, "x", TTL_S)).database for node in (ONE, TWO)}
    assert len(told) == 1
    await database.fetch(sql("delete from standfast_identity"))
    with pytest.raises(DatabaseRejected, match="identity"):
        await leases.heartbeat(ONE, "one", TTL_S)


async def test_a_heartbeat_is_one_attempt_at_a_real_write(
    leases: Leases, database_options: DatabaseOptions
) -> None:
    """A server that only reads does not confirm anything."""
    async with Database(
        replace(database_options, conninfo="options='-c default_transaction_read_only=on'")
    ) as reading:
        with pytest.raises(DatabaseUnavailable) as caught:
            await Leases(reading).heartbeat(ONE, "one", TTL_S)
    assert caught.value.facts["cause"] == "read_only"
