"""Cleanups against real tables: what goes, what stays, and what comes back."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, JobRunning, NotFound, UsageError
from standfast.jobs.cleanup.holders import Holders
from standfast.jobs.cleanup.pre_keys import SpentPreKeys
from standfast.jobs.cleanup.rules import find_old
from standfast.jobs.cleanup.run import CleanupOptions, run_cleanup
from standfast.jobs.cleanup.undo import undo
from standfast.jobs.context import JobContext
from standfast.jobs.sole import sole
from standfast.postgres.leases import Leases
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings
from tests.integration.aged_keys import ONE, add, run
from tests.integration.vaults import Alerts, node
from tests.support import made_up_creds

ROWS = "select * from whatsapp_keys order by company_id, key_type, key_id"
LEGACY = """
create table whatsapp_auth (company_id varchar(50) primary key, creds text not null);
create table whatsapp_keys (
    id serial primary key, company_id varchar(50) not null, key_type varchar(50) not null, key_id varchar(200) not null,
    value text not null, created_at timestamp, updated_at timestamp, unique (company_id, key_type, key_id)
)
"""


@pytest.fixture
def alerts() -> Alerts:
    return Alerts()


@pytest.fixture
def context(database: Database, alerts: Alerts) -> JobContext:
    return JobContext(Settings(), database, alerts, str(uuid.uuid4()), "here")


async def ids(database: Database, company: str = "acme") -> set[tuple[Any, ...]]:
    return set(
        await run(database, "select key_type, key_id from whatsapp_keys where company_id = $1", company)
    )


async def test_safe_takes_by_the_types_rule(context: JobContext, database: Database) -> None:
    """What a contact needs stays however old it is; the list of tokens stays too."""
    for key_type in ("session", "sender-key-memory", "tctoken", "pre-key", "sender-key", "identity-key"):
        await add(database, key_type, 2, 40)
        await add(database, key_type, 1, 5, key_id="young")
    await add(database, "tctoken", 1, 40, key_id="__index")
    await add(database, "standfast-inbox", 1, 400)
    await add(database, "of-tomorrow", 1, 400)
    report = await run_cleanup(context)
    assert report.removed == {"session": 2, "sender-key-memory": 2, "tctoken": 2}
    assert (report.before.keys, report.after and report.after.keys) == (21, 15)
    assert ("tctoken", "__index") in await ids(database)


async def test_exactly_what_went_comes_back(context: JobContext, database: Database) -> None:
    """Every column of every row; a key that was written anew since stays as it is; then there is nothing to undo."""
    await add(database, "session", 5, 40)
    await add(database, "session", 3, 50, company="other")
    await run(
        database, "update whatsapp_keys set expires_at = now(), value = '{\"a\":  [1.50]}' where key_id = '2'"
    )
    before = await run(database, ROWS)
    report = await run_cleanup(context)
    assert report.count == 8
    assert await ids(database) == set()
    await add(database, "session", 1, 0, key_id="3")
    done = await undo(context, report.run)
    assert (done.restored, done.newer) == (7, 1)
    assert [row for row in before if row[2] != "3" or row[0] == "other"] == [
        row for row in await run(database, ROWS) if row[2] != "3" or row[0] == "other"
    ]
    with pytest.raises(UsageError, match="it was undone"):
        await undo(context, report.run)
    with pytest.raises(NotFound):
        await undo(context, "20200101T000000Z")


async def test_a_dry_run_writes_nothing(context: JobContext, database: Database) -> None:
    """It names what would go, and not even a run is on record."""
    await add(database, "session", 5, 40)
    report = await run_cleanup(context, options=CleanupOptions(dry_run=True))
    assert (report.removed, report.run, report.after) == ({"session": 5}, "", None)
    assert len(await ids(database)) == 5
    assert await run(database, "select count(*) from standfast_cleanups") == [(0,)]
    assert await run(database, "select count(*) from standfast_writers") == [(0,)]


async def test_the_ceiling_is_kept_and_force_goes_beyond(database: Database, alerts: Alerts) -> None:
    """What was left is said; more than a thousand keys are worth a warning."""
    context = JobContext(Settings(db_cleanup_ceiling=100), database, alerts, ONE, "here")
    await add(database, "session", 1_150, 40)
    first = await run_cleanup(context)
    assert (first.count, first.beyond_ceiling) == (100, 1_050)
    second = await run_cleanup(context, options=CleanupOptions(force=True))
    assert (second.count, second.beyond_ceiling, second.vacuum) == (1_050, 0, "done")
    assert [(one.name, one.level) for one in alerts.taken] == [
        ("cleanup_done", "info"),
        ("cleanup_done", "warning"),
    ]


async def test_pairs_and_memories_go_together(context: JobContext, database: Database) -> None:
    """The legacy policy takes everything old, but never one side of a pair, nor a sender key without its memory."""
    for key_id, value, days in (
        ("111", "222", 40),
        ("222_reverse", "111", 50),
        ("333", "444", 40),
        ("444_reverse", "333", 2),
        ("555", "666", 40),
        ("777", "888", 40),
        ("778", "888", 2),
        ("888_reverse", "778", 50),
    ):
        await add(database, "lid-mapping", 1, days, key_id=key_id)
        await run(
            database, "update whatsapp_keys set value = to_jsonb($2::text) where key_id = $1", key_id, value
        )
    await add(database, "sender-key", 1, 40, key_id="1@g.us::me::0")
    await add(database, "sender-key-memory", 1, 1, key_id="1@g.us")
    await add(database, "pre-key", 2, 40)
    report = await run_cleanup(context, options=CleanupOptions(policy="legacy"))
    assert report.removed == {"lid-mapping": 3, "pre-key": 2, "sender-key": 1, "sender-key-memory": 1}
    kept = ("333", "444_reverse", "777", "778", "888_reverse")
    assert await ids(database) == {("lid-mapping", key_id) for key_id in kept}


async def test_all_old_sender_keys_of_a_group_go_with_its_memory(database: Database) -> None:
    """As one unit: a memory that stays because another key was written must not outlive our own."""
    await add(database, "sender-key", 1, 40, key_id="1@g.us::me::0")
    await add(database, "sender-key", 1, 40, key_id="1@g.us::other::0")
    await add(database, "sender-key-memory", 1, 1, key_id="1@g.us")
    await add(database, "session", 1, 40)
    units = await find_old(database, "legacy", 30, "acme")
    assert sorted([one.key_type for one in unit] for unit in units) == [
        ["sender-key", "sender-key", "sender-key-memory"],
        ["session"],
    ]


async def test_what_another_node_holds_stays(context: JobContext, database: Database) -> None:
    """A living node's companies are its own business, and a silent one's may have writes on their way."""
    leases = Leases(database)
    await leases.heartbeat(ONE, "one", 30)
    for name in ("held", "free"):
        await add(database, "session", 2, 40, company=name)
    await leases.acquire(Company("held"), ONE, 0, create=True)
    report = await run_cleanup(context)
    assert {one.company: (one.count, one.left) for one in report.companies} == {
        "free": (2, 0),
        "held": (0, 2),
    }
    assert "node one" in next(one.reason for one in report.companies if one.company == "held")
    await run(database, "update standfast_nodes set alive_until = now() - interval '1 s'")
    report = await run_cleanup(context)
    assert report.count == 0
    assert "silent" in report.companies[0].reason


async def test_one_company_and_one_run_at_a_time(context: JobContext, database: Database) -> None:
    """Only the named company's keys go; a second run at once is refused, and an unknown company told."""
    await add(database, "session", 2, 40)
    await add(database, "session", 2, 40, company="other")
    other = JobContext(context.settings, database, context.alerts, ONE, "there")
    async with sole(other, "cleanup"):
        with pytest.raises(JobRunning):
            await run_cleanup(context)
    assert (await run_cleanup(context, options=CleanupOptions(company="acme"))).count == 2
    assert len(await ids(database, "other")) == 2
    with pytest.raises(CompanyUnknown):
        await run_cleanup(context, options=CleanupOptions(company="nobody"))
    with pytest.raises(UsageError):
        await run_cleanup(context, options=CleanupOptions(retention_days=0))


async def test_adopted_tables_of_texts_are_had_back_to_the_letter(
    tmp_path: Path, bare_database: Database, bare_database_options: DatabaseOptions
) -> None:
    """Text values, varchar ids, a serial id, times without a zone or none at all; through a vault and without."""
    for statement in LEGACY.split(";"):
        await run(bare_database, statement)
    await run(bare_database, "insert into whatsapp_auth values ('acme', $1)", made_up_creds().decode())
    await run(
        bare_database,
        "insert into whatsapp_keys (company_id, key_type, key_id, value, updated_at) values"
        " ('acme', 'session', 'old', '{ \"b\":1,  \"a\":2 }', '2020-01-02 03:04:05.678901'),"
        " ('acme', 'session', 'timeless', '{}', null)",
    )
    await migrate(bare_database)
    columns = "key_type, key_id, value, created_at, updated_at, expires_at"
    before = await run(bare_database, f"select {columns} from whatsapp_keys order by 1, 2")
    for is_held in (False, True):
        async with node(tmp_path, bare_database_options) as one:
            if is_held:
                await one.vault.open(Company("acme"))
            given = JobContext(Settings(), one.database, one.alerts, one.vault.replica.node, "one")
            report = await run_cleanup(given, one.vault)
            assert await ids(bare_database) == {("session", "timeless")}
            assert (await undo(given, report.run, one.vault)).restored == 1
        assert await run(bare_database, f"select {columns} from whatsapp_keys order by 1, 2") == before


async def test_pre_keys_count_towards_the_ceiling(
    database: Database, alerts: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What WhatsApp has struck off its list goes as far as the ceiling leaves room, and the rest is said."""
    context = JobContext(Settings(db_cleanup_ceiling=5), database, alerts, ONE, "here")
    await add(database, "pre-key", 4, 40)
    await add(database, "session", 3, 40)

    class _Open:
        def holdings(self) -> list[Any]:
            return [SimpleNamespace(company=Company("acme"))]

    async def spent(companies: Any, note: bool) -> AsyncIterator[SpentPreKeys]:
        yield SpentPreKeys(companies[0], ("1", "2", "3", "4"))

    monkeypatch.setattr(Holders, "is_ours", lambda _self, _company: True)
    options = CleanupOptions(dry_run=True)
    report = await run_cleanup(context, cast(Any, _Open()), options, spent)
    assert report.removed == {"session": 3, "pre-key": 2}
    assert report.beyond_ceiling == 2
