"""Restores where others hold, or held, the companies: nobody's former state comes back over a restored one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from standfast.authstate.change import Change
from standfast.errors import CompanyInUse
from standfast.jobs.restore import rules
from standfast.jobs.restore.installing import Fence, install
from standfast.jobs.restore.plan import Planned
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.service.link import Link
from standfast.settings import Settings
from tests.integration.restoring import (
    ACME,
    CREDS,
    KEPT_WHEN_ROLLED_BACK,
    backed_up,
    fill,
    lose,
    meant,
    planned,
    restored,
    values,
)
from tests.integration.services import running, settings_of
from tests.integration.vaults import QUICK, node
from tests.support import until


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options)


async def test_a_living_node_is_asked_first_and_fenced_where_it_is_forced(
    settings: Settings,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
    tmp_path: Path,
) -> None:
    """Refused with its name. By force its session ends, what it writes goes to quarantine, and the restored state
    stays."""
    await fill(store)
    await backed_up(settings, database)
    async with node(tmp_path / "two", database_options) as two:
        await two.vault.open(ACME)
        await two.vault.set_keys(ACME, {"session": {"theirs": b'"s2"'}})
        (refused,) = (await planned(settings)).companies
        assert (refused.action, refused.holder) == ("refused", "one")
        assert "--force" in refused.why
        ruled = rules.rolled_back(CREDS, age_s=0.0)
        with pytest.raises(CompanyInUse, match="node one holds"):  # it came after the plan was made
            await install(database, Planned("acme", "rolled back"), ruled, Fence())
        report = await restored(settings, force=True)
        assert [(one.action, one.error) for one in report.companies] == [("rolled back", None)]
        await until(lambda: bool(two.alerts.named("fenced")), 8.0)
        with pytest.raises(CompanyInUse):
            await two.vault.set_keys(ACME, {"session": {"late": b'"s3"'}})
        assert values(await store.snapshot(ACME)) == meant(KEPT_WHEN_ROLLED_BACK)


async def test_an_old_replica_elsewhere_gives_way(
    settings: Settings,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
    tmp_path: Path,
) -> None:
    """A node that had the company, and writes that PostgreSQL never got, comes back after the restore: it reads what
    was restored, and its own writes wait in quarantine."""
    await fill(store)
    await backed_up(settings, database)
    async with node(tmp_path / "two", database_options) as two:
        await two.vault.open(ACME)
        two.vault.release(ACME)
        await until(lambda: two.vault.held.get(ACME) is None)
        change = Change.of_keys({"session": {"unsent": b'"s"'}})
        await two.vault.replica.append(two.vault.replica.companies()[0].number, 1_000, change)
    await store.load_creds(ACME)  # begins anew
    await store.set_keys(ACME, {"session": {"gap": b'"s"'}})
    await restored(settings)
    async with node(tmp_path / "two", database_options) as two:
        await two.in_state("online")
        await until(lambda: bool(two.vault.replica.quarantined()), 8.0)
        await two.vault.open(ACME)
        assert await two.vault.get_keys(ACME, "session", ["unsent", "gap", "79990000002.0"]) == {}
        two.vault.release(ACME)
    assert values(await store.snapshot(ACME)) == meant(KEPT_WHEN_ROLLED_BACK)


async def test_nothing_opens_while_a_restore_goes_on(
    settings: Settings,
    state: Path,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
) -> None:
    """What it withholds is let go when its connection ends, however that ends."""
    await fill(store)
    await backed_up(settings, database)
    async with running(state, database_options) as now:
        await now.in_state("online")
        link = Link(now.service.gateway.path)
        assert await link.request("restore.hold", {"company": "acme"}, 5.0) is not None
        with pytest.raises(CompanyInUse, match="being restored"):
            await now.service.vault.open(ACME)
        link.close()
        await until(lambda: not now.service.vault.held.withheld)
        assert await now.service.vault.open(ACME)


async def test_a_node_that_lives_brings_its_companies_back_by_itself(
    settings: Settings,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
    tmp_path: Path,
) -> None:
    """The database is lost while another node has the company open: as the restored one is the same database, that node
    pushes what it knows, and nothing of it is overtaken by the backup."""
    await fill(store)
    async with node(tmp_path / "two", database_options, replace(QUICK, node_name="two")) as two:
        await two.in_state("online")
        await two.vault.open(ACME)
        await backed_up(settings, database)
        await two.vault.set_keys(ACME, {"session": {"later": b'"s2"'}})
        await until(lambda: all(holding.pending == 0 for holding in two.vault.holdings()))
        lose(database_options)
        await two.in_state("outage")
        report = await restored(settings)
        assert [one.action for one in report.companies] == ["returned"]
        assert not two.alerts.named("fenced")
        await two.vault.set_keys(ACME, {"session": {"after": b'"s3"'}})
    sessions = values(await store.snapshot(ACME))["session"]
    assert {"later", "after"} < set(sessions)
