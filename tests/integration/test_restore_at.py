"""`standfast restore --at`: companies put back to what they were at a second, out of the change log."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from standfast.errors import CompanyUnknown, UsageError
from standfast.jobs.restore.from_log import LogSource, moment
from standfast.jobs.restore.plan import Plan, Wish
from standfast.jobs.restore.restore import RestoreReport
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.service.restore_run import Asked, restore_from
from standfast.settings import Settings
from tests.integration.changelogs import next_second
from tests.integration.restoring import (
    ACME,
    BOLT,
    CREDS,
    KEPT_WHEN_ROLLED_BACK,
    KEYS,
    lose,
    meant,
    said,
    values,
)
from tests.integration.services import running, settings_of

LATER: dict[str, dict[str, bytes | None]] = {
    "pre-key": {"1": None, "40": b'{"a":40}'},
    "lid-mapping": {"79990000002": b'"555"'},
}


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options, change_log_segment_s=0.4)


async def back_to(
    settings: Settings, at: float | None, *companies: str, replay: bool = False
) -> tuple[Plan, RestoreReport]:
    """Restore whatever the plan says."""
    plans: list[Plan] = []
    source = LogSource(settings, at, companies)
    asked = Asked(source.name, Wish(frozenset(companies), replay))

    def agree(plan: Plan) -> bool:
        plans.append(plan)
        return True

    report = await restore_from(settings, source, asked, agree)
    assert report is not None, "the plan had nothing to do"
    return plans[0], report


async def history(settings: Settings, options: DatabaseOptions) -> float:
    """Two companies with keys of every kind, which change after the moment that is returned."""
    async with running(settings.state_dir, options, change_log_segment_s=0.4) as one:
        vault = one.service.vault
        for company in (ACME, BOLT):
            await vault.open(company, pair=True)
            await vault.create_creds(company, CREDS)
            await vault.set_keys(company, KEYS)
        at = await next_second()
        for company in (ACME, BOLT):
            await vault.set_keys(company, LATER)
    return at


async def test_one_company_goes_back_to_a_second(
    settings: Settings, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """As it was then, but for what may not be rolled back; the other one is not touched."""
    at = await history(settings, database_options)
    others = values(await store.snapshot(BOLT))
    plan, report = await back_to(settings, at, ACME)
    assert [(one.company, one.action) for one in plan.companies] == [("acme", "rolled back")]
    assert report.ok
    now = await store.snapshot(ACME)
    assert values(now) == meant(KEPT_WHEN_ROLLED_BACK)
    assert now is not None
    assert json.loads(now.creds)["nextPreKeyId"] > 10_000
    assert values(await store.snapshot(BOLT)) == others
    async with running(settings.state_dir, database_options, change_log_segment_s=0.4) as one:
        await one.service.vault.open(ACME)
        assert await one.service.vault.get_keys(ACME, "lid-mapping", ["79990000002"]) == {
            "79990000002": b'"444"'
        }


async def test_a_lost_server_is_had_back_from_segments_alone(
    settings: Settings,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Into an empty database, with no backup and no replica: all companies, and the database's identity."""
    monkeypatch.setattr("standfast.jobs.restore.restore.NODES_PATIENCE_S", 0.3)  # the lost node comes no more
    await history(settings, database_options)
    before = said(database_options, "select id::text from standfast_identity")
    lose(database_options)
    for name in ("vault.db", "vault.db-wal", "vault.db-shm"):
        (settings.state_dir / "vault" / name).unlink(missing_ok=True)
    plan, report = await back_to(settings, None, replay=True)
    assert [(one.company, one.action) for one in plan.companies] == [
        ("acme", "rolled back"),
        ("bolt", "rolled back"),
    ]
    assert report.ok
    assert said(database_options, "select id::text from standfast_identity") == before
    for company in (ACME, BOLT):
        now = values(await store.snapshot(company))
        assert now["lid-mapping"]["79990000002"] == "555"
        assert set(now["pre-key"]) == {"39", "40"}
        assert "session" not in now


async def test_what_the_replica_still_has_is_not_lost(
    settings: Settings, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """With the replica there, the latest state is put in place wholly, ratchets and all."""
    await history(settings, database_options)
    lose(database_options)
    plan, report = await back_to(settings, None, replay=True)
    assert {one.action for one in plan.companies} == {"replay"}
    assert report.ok
    assert values(await store.snapshot(ACME))["session"] == meant(KEYS)["session"]


async def test_a_moment_that_the_log_does_not_have_is_refused(
    settings: Settings, database_options: DatabaseOptions, database: Database
) -> None:
    """Nothing is done, and the error says where to look."""
    with pytest.raises(CompanyUnknown, match="no state") as refused:
        await back_to(settings, time.time())
    assert "changelog list" in refused.value.next_step
    shutil.rmtree(settings.state_dir)


@pytest.mark.parametrize("text", ["yesterday", "2026-11-22T10:15:30", "2026-13-01T00:00:00Z"])
def test_a_moment_needs_a_time_zone(text: str) -> None:
    """Nobody's clock is guessed."""
    with pytest.raises(UsageError):
        moment(text)
    assert moment("2026-11-22T10:15:30Z") == moment("2026-11-22T13:15:30+03:00")
