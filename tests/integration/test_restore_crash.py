"""Restores that are killed, given up, or begun twice: the command in a process of its own, ended by SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import RestoreRefused
from standfast.jobs.restore.steps import Steps, StepsFile
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.service.restore_run import abandon_unfinished, resume_unfinished
from standfast.settings import Settings
from tests.integration.restoring import CREDS, KEPT_WHEN_ROLLED_BACK, KEYS, backed_up, meant, restored, values
from tests.integration.services import settings_of

ROOT = Path(__file__).resolve().parents[2]
COMPANIES = [Company(f"c{number:02d}") for number in range(24)]
LATER = {"session": {"later": b'"s2"'}}
OLD = meant({**KEYS, "session": {**KEYS["session"], **LATER["session"]}})
NEW = meant(KEPT_WHEN_ROLLED_BACK)
Moment = Callable[[Steps], bool]
_STAGED = Statement("test.staged", "select to_regclass('restoring_standfast_keys')::text")


def stages(steps: Steps) -> list[str]:
    return [step.stage for step in steps.companies.values()]


MOMENTS: dict[str, Moment] = {
    "begun": lambda steps: True,
    "kept": lambda steps: "kept" in stages(steps),
    "first": lambda steps: "done" in stages(steps),
    "half": lambda steps: stages(steps).count("done") >= len(COMPANIES) // 2,
    "last": lambda steps: stages(steps).count("done") >= len(COMPANIES) - 1,
}


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options)


async def prepared(settings: Settings, database: Database, store: PostgresAuthStore) -> None:
    """Companies in a backup, each written since."""
    for company in COMPANIES:
        await store.install(company, CREDS, KEYS)
    await backed_up(settings, database)
    for company in COMPANIES:
        await store.set_keys(company, LATER)


async def killed_at(settings: Settings, moment: Moment, *options: str) -> Steps:
    """Restore by the command and kill it at the moment; what the steps file says afterwards."""
    assert settings.database_url is not None
    environment = {
        **os.environ,
        "STANDFAST_STATE_DIR": str(settings.state_dir),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, "-m", "standfast", "backup", "restore", "latest", "--yes", "--json", *options]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    file = StepsFile(settings.state_dir)
    async with asyncio.timeout(30):
        while process.returncode is None:
            steps = file.read()
            if steps is not None and moment(steps):
                os.kill(process.pid, signal.SIGKILL)
                break
            await asyncio.sleep(0.001)
        out, err = await process.communicate()
    left = file.read()
    assert left is not None, (out, err)
    return left


async def states(store: PostgresAuthStore) -> list[object]:
    return [values(await store.snapshot(company)) for company in COMPANIES]


async def check(settings: Settings, store: PostgresAuthStore, moment: Moment) -> None:
    """Killed there, every company is wholly old or wholly new."""
    left = await killed_at(settings, moment)
    for company, found in zip(COMPANIES, await states(store), strict=True):
        assert found in (OLD, NEW)
        if left.companies[company].stage == "done":
            assert found == NEW
        if left.companies[company].stage == "planned":
            assert found == OLD
    with pytest.raises(RestoreRefused, match="unfinished"):
        await restored(settings)


async def test_a_killed_restore_goes_on(
    settings: Settings, database: Database, store: PostgresAuthStore
) -> None:
    """Nothing is restored twice, nothing is left out, and no file and table of it stays."""
    await prepared(settings, database, store)
    await check(settings, store, MOMENTS["half"])
    report = await resume_unfinished(settings, None)
    assert report.ok
    assert await states(store) == [NEW] * len(COMPANIES)
    assert not (settings.state_dir / "restore.json").exists()
    assert await database.fetch(_STAGED) == [(None,)]
    with pytest.raises(RestoreRefused, match="no restore is unfinished"):
        await resume_unfinished(settings, None)


async def test_a_killed_restore_is_given_up(
    settings: Settings, database: Database, store: PostgresAuthStore
) -> None:
    """Every company is as it was before, but for who has our sender keys; a new restore may begin."""
    await prepared(settings, database, store)
    await check(settings, store, MOMENTS["first"])
    report = await abandon_unfinished(settings, None)
    assert report.is_finished
    for found in await states(store):
        assert isinstance(found, dict)
        assert {**found, "sender-key-memory": {}} == {**OLD, "sender-key-memory": {}}
    await restored(settings)
    assert await states(store) == [NEW] * len(COMPANIES)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_at_any_step(
    settings: Settings, database: Database, store: PostgresAuthStore, moment: str
) -> None:
    """Still each company is whole, and the end is the same."""
    await prepared(settings, database, store)
    await check(settings, store, MOMENTS[moment])
    report = await resume_unfinished(settings, None)
    assert report.ok
    assert await states(store) == [NEW] * len(COMPANIES)
