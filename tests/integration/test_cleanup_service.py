"""Cleanups of a running service: through its vault, whose replica agrees, and beside writes that go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from standfast.errors import CompanyInUse, DatabaseUnavailable
from standfast.jobs.cleanup import trash
from standfast.jobs.cleanup.run import CleanupOptions
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.cleaning import Cleaning
from standfast.service.job_context import service_context
from standfast.service.pre_keys import asks_sessions
from standfast.vault.pruning import confirmed, remove_unwritten
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
    """What goes is gone in both, and comes back in both with its times."""
    await age(database, "0.0", "1.0", "2.0")
    before = await run(database, "select * from whatsapp_keys order by key_id")
    report = await cleaning(service).clean(CleanupOptions())
    assert report.removed == {"session": 3}
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
    assert await stored(database) == set(SESSIONS) - {"0.0"}
    ((name,),) = await run(database, "select run from standfast_cleanups")
    done = await cleaning(service).put_back(str(name), None)
    assert done.restored == 1
    assert here(service) == await stored(database) == set(SESSIONS)


async def test_what_a_killed_run_left_is_settled(service: Running, database: Database) -> None:
    """Copies whose keys are in the table leave the trash; the others are there to be put back."""
    columns = "company_id, key_type, key_id, value, taken, trashed_at"
    await run(
        database, "insert into standfast_cleanups values ('killed', gen_random_uuid(), 'x', 'safe', 30)"
    )
    for key_id in ("0.0", "gone"):
        await run(
            database,
            f"insert into standfast_trash (run, {columns})"
            " values ('killed', 'acme', 'session', $1, '1', false, now() - interval '2 hours')",
            key_id,
        )
    await cleaning(service).clean(CleanupOptions())
    assert await run(database, "select key_id, taken from standfast_trash") == [("gone", True)]


async def test_only_what_is_open_here(service: Running) -> None:
    """A company that was let go is somebody else's business."""
    service.service.vault.release(ACME)
    with pytest.raises(CompanyInUse):
        await remove_unwritten(service.service.vault, ACME, [{("session", "0.0"): SESSIONS["0.0"]}])
