"""Cleanups of a running service: through its vault, whose replica agrees, and beside writes that go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import CompanyInUse, DatabaseUnavailable, JobRunning, UsageError
from standfast.jobs.cleanup import trash
from standfast.jobs.cleanup.run import CleanupOptions
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.cleaning import Cleaning
from standfast.service.job_context import service_context
from standfast.service.pre_keys import asks_sessions
from standfast.vault.pruning import confirmed, put_back_absent, remove_unwritten
from tests.integration.aged_keys import run
from tests.integration.restoring import CREDS
from tests.integration.services import ACME, Running, running
from tests.support import Proxy, until

SESSIONS = {f"{n}.0": f'{{"n": {n}}}'.encode() for n in range(20)}


@pytest.fixture
async def service(state: Path, proxied: DatabaseOptions) -> AsyncIterator[Running]:
    async with running(state, proxied, change_log="off") as started:
        vault = started.service.vault
        await vault.open(ACME, pair=True)
        await vault.create_creds(ACME, CREDS)
        await vault.set_keys(ACME, {"session": dict(SESSIONS)})
        await vault.held.drained(vault.held.adopt(ACME), 5)
        yield started


def cleaning(started: Running) -> Cleaning:
    service = started.service
    return Cleaning(
        service.vault,
        lambda: service_context(
            service.settings, service.database, service.alerts, service.vault.replica.node
        ),
        asks_sessions(service.pool),
    )


async def age(database: Database, *names: str) -> None:
    await run(
        database,
        "update whatsapp_keys set updated_at = now() - interval '50 days', created_at = now() - interval '60 days'"
        " where key_id = any($1)",
        list(names),
    )


def here(started: Running) -> set[str]:
    vault = started.service.vault
    holding = vault.held.get(ACME)
    assert holding is not None
    return set(vault.replica.keys(holding.number, "session", list(SESSIONS)))


async def stored(database: Database) -> set[Any]:
    return {row[0] for row in await run(database, "select key_id from whatsapp_keys")}


async def test_replica_and_tables_agree(service: Running, database: Database) -> None:
    """What goes is gone in both, is counted, and comes back in both with its times."""
    await age(database, "0.0", "1.0", "2.0")
    before = await run(database, "select * from whatsapp_keys order by key_id")
    cleaner = cleaning(service)
    await cleaner.clean(CleanupOptions(dry_run=True))
    report = await cleaner.clean(CleanupOptions())
    assert report.removed == {"session": 3}
    assert (cleaner.tally.outcomes, cleaner.tally.removed) == ({"done": 1}, {"session": 3})
    assert here(service) == await stored(database) == set(SESSIONS) - {"0.0", "1.0", "2.0"}
    done = await cleaning(service).put_back(report.run, None)
    assert (done.restored, done.running) == (3, ["acme"])
    assert here(service) == set(SESSIONS)
    assert await run(database, "select * from whatsapp_keys order by key_id") == before
    assert await run(database, "select count(*) from standfast_trash") == [(0,)]


async def test_a_write_meanwhile_keeps_its_key(
    service: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contact writes between the look at the table and the removal: that session stays, and leaves the trash."""
    await age(database, "0.0", "1.0")
    copy = trash.copy

    async def slowly(*args: Any) -> Any:
        seen = await copy(*args)
        await service.service.vault.set_keys(ACME, {"session": {"1.0": b'{"n": 1, "turned": true}'}})
        return seen

    monkeypatch.setattr(trash, "copy", slowly)
    report = await cleaning(service).clean(CleanupOptions())
    assert report.removed == {"session": 1}
    assert here(service) == set(SESSIONS) - {"0.0"}
    await until(lambda: not service.service.vault.holdings()[0].pending)
    assert await stored(database) == set(SESSIONS) - {"0.0"}
    assert await run(database, "select key_id, taken from standfast_trash") == [("0.0", True)]


async def test_a_write_that_is_not_durable_yet_keeps_its_key(service: Running) -> None:
    """What was begun before the look counts, though it cannot be read yet; so does what begins meanwhile."""
    vault = service.service.vault
    units = [{("session", key): SESSIONS[key]} for key in ("3.0", "4.0")]
    _, removed, _ = await asyncio.gather(  # each takes its first step in this order, in one turn
        vault.set_keys(ACME, {"session": {"3.0": b'{"n": 5}'}}),
        remove_unwritten(vault, ACME, units),
        vault.set_keys(ACME, {"session": {"4.0": SESSIONS["4.0"]}}),
    )
    assert removed == set()
    assert here(service) == set(SESSIONS)


async def test_what_goes_together_stays_together(service: Running) -> None:
    """One key of a unit was written: none of it goes."""
    vault = service.service.vault
    unit = {("session", "5.0"): SESSIONS["5.0"], ("session", "6.0"): b'{"n": 0}'}
    assert await remove_unwritten(vault, ACME, [unit, {("session", "7.0"): SESSIONS["7.0"]}]) == {
        ("session", "7.0")
    }
    assert here(service) == set(SESSIONS) - {"7.0"}


async def test_an_outage_in_the_middle_loses_nothing(
    service: Running, database: Database, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes before the removal reached it: the run fails and says so; the copies stay in the trash, and when
    the removal has arrived they can be put back."""
    await age(database, "0.0")
    monkeypatch.setattr("standfast.vault.pruning.CONFIRM_TIMEOUT_S", 0.5)
    begun = asyncio.Event()
    copy = trash.copy

    async def then_gone(*args: Any) -> Any:
        seen = await copy(*args)
        await proxy.close()
        begun.set()
        return seen

    monkeypatch.setattr(trash, "copy", then_gone)
    with pytest.raises(DatabaseUnavailable):
        await cleaning(service).clean(CleanupOptions())
    assert service.alerts("cleanup_failed")
    monkeypatch.setattr(trash, "copy", copy)
    await service.in_state("outage")
    with pytest.raises(DatabaseUnavailable, match="nothing is cleaned up"):
        await cleaning(service).clean(CleanupOptions())
    await proxy.listen()
    await service.in_state("online")
    await confirmed(service.service.vault, ACME)
    assert await stored(database) - {"last"} == set(SESSIONS) - {"0.0"}
    ((name,),) = await run(database, "select run from standfast_cleanups")
    done = await cleaning(service).put_back(str(name), None)
    assert done.restored == 1
    await confirmed(service.service.vault, ACME)
    assert here(service) == await stored(database) == set(SESSIONS)


@pytest.mark.parametrize("died", ["before the removal", "after it"])
async def test_what_a_killed_run_left_is_settled(
    service: Running, database: Database, monkeypatch: pytest.MonkeyPatch, died: str
) -> None:
    """What had gone can be put back. What had not leaves the trash, also where its session deleted it since: it must
    not come back."""
    await age(database, "0.0")
    before = await run(database, "select * from whatsapp_keys order by key_id")

    async def dies(*_: object) -> None:
        raise DatabaseUnavailable("killed", cause="timeout")

    killed = "remove_unwritten" if died == "before the removal" else "trash.settle"
    with monkeypatch.context() as patch:
        patch.setattr(f"standfast.jobs.cleanup.run.{killed}", dies)
        with pytest.raises(DatabaseUnavailable):
            await cleaning(service).clean(CleanupOptions())
    assert await run(database, "select key_id, taken from standfast_trash") == [("0.0", False)]
    ((name,),) = await run(database, "select run from standfast_cleanups")
    await service.service.vault.set_keys(ACME, {"session": {"0.0": None}})
    if died == "before the removal":
        with pytest.raises(UsageError, match="nothing"):
            await cleaning(service).put_back(str(name), None)
        assert here(service) == set(SESSIONS) - {"0.0"}
        return
    assert (await cleaning(service).put_back(str(name), None)).restored == 1
    await confirmed(service.service.vault, ACME)
    assert await run(database, "select * from whatsapp_keys order by key_id") == before


async def test_nothing_is_decided_while_a_silent_node_may_have_the_removal(
    service: Running, database: Database
) -> None:
    """The company of a node that died with it: its copies wait in the trash, whatever the table says."""
    await run(
        database, "insert into standfast_cleanups values ('killed', gen_random_uuid(), 'x', 'safe', 30)"
    )
    await run(
        database,
        "insert into standfast_trash (run, company_id, key_type, key_id, value)"
        " values ('killed', 'bolt', 'session', '1', '1')",
    )
    await run(
        database,
        "insert into standfast_writers (company_id, epoch, node) values ('bolt', 1, gen_random_uuid())",
    )
    await cleaning(service).clean(CleanupOptions())
    assert await run(database, "select key_id, taken from standfast_trash") == [("1", False)]
    await run(database, "update standfast_writers set node = null where company_id = 'bolt'")
    await cleaning(service).clean(CleanupOptions())
    assert await run(database, "select key_id, taken from standfast_trash") == []


async def test_the_same_value_written_anew_keeps_its_key(service: Running) -> None:
    """PostgreSQL lacks that write, though it has the value: the key is in use."""
    vault = service.service.vault
    await vault.set_keys(ACME, {"session": {"8.0": SESSIONS["8.0"]}})
    assert await remove_unwritten(vault, ACME, [{("session", "8.0"): SESSIONS["8.0"]}]) == set()
    await confirmed(vault, ACME)
    assert await remove_unwritten(vault, ACME, [{("session", "8.0"): b"no JSON"}]) == set()
    assert len(await remove_unwritten(vault, ACME, [{("session", "8.0"): SESSIONS["8.0"]}])) == 1


async def test_undo_overwrites_no_write_that_is_under_way(service: Running) -> None:
    """A key that is just being written, and cannot be read yet, is there: what comes back is not put over it."""
    vault = service.service.vault
    _, put_back = await asyncio.gather(  # each takes its first step in this order, in one turn
        vault.set_keys(ACME, {"session": {"new": b'{"n": 2}'}}),
        put_back_absent(vault, ACME, {("session", "new"): b'{"n": 1}', ("session", "gone"): b"1"}),
    )
    assert put_back == {("session", "gone")}
    assert await vault.get_keys(ACME, "session", ["new", "gone"]) == {"new": b'{"n": 2}', "gone": b"1"}


async def test_two_runs_of_one_service_are_refused(service: Running, database: Database) -> None:
    """The schedule's and a command's: the second one ends with JobRunning, and the first goes on."""
    await age(database, "0.0")
    runs = [cleaning(service).clean(CleanupOptions()) for _ in range(2)]
    first, second = await asyncio.gather(*runs, return_exceptions=True)
    assert isinstance(second, JobRunning)
    assert not isinstance(first, BaseException)
    assert first.count == 1


async def test_only_what_is_open_here(service: Running) -> None:
    """A company that was let go is somebody else's business."""
    service.service.vault.release(ACME)
    with pytest.raises(CompanyInUse):
        await remove_unwritten(service.service.vault, ACME, [{("session", "0.0"): SESSIONS["0.0"]}])
