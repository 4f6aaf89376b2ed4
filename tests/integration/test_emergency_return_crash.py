"""A way back that is killed: the command in a process of its own, ended by SIGKILL, one whose
service is, and one whose service goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.errors import EmergencyFailed, EmergencyRefused, JobRunning
from standfast.jobs.emergency.mode import Mode, ModeFile
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.settings import Settings
from tests.integration.emergency_process import ended, ended_alone
from tests.integration.restoring import meant, values
from tests.integration.returns import on_files, returned
from tests.integration.services import Running, running, settings_of
from tests.support import Proxy, made_up_creds, until

COMPANIES = [Company(f"c{number:02d}") for number in range(24)]
BEFORE = {"session": {"a": b'{"n":1}', "gone": b'{"n":2}'}}
ON_FILES: dict[str, dict[str, bytes | None]] = {"session": {"b": b'{"n":3}', "gone": None}}
OLD = meant(BEFORE)
NEW = meant({"session": {"a": b'{"n":1}', "b": b'{"n":3}'}})
Moment = Callable[[Mode | None], bool]
Killed = Callable[[Settings, Moment], Awaitable[Mode | None]]
MOMENTS: dict[str, Moment] = {
    "begun": lambda mode: mode is not None and mode.stage == "to-postgres",
    "first": lambda mode: mode is not None and len(mode.done) >= 1,
    "half": lambda mode: mode is None or len(mode.done) >= len(COMPANIES) // 2,
    "last": lambda mode: mode is None or len(mode.done) >= len(COMPANIES) - 1,
    "switched": lambda mode: mode is None,
}


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options)


async def written_on_files(now: Running, store: PostgresAuthStore) -> None:
    """Each company is written once while its node stands on files."""
    for company in COMPANIES:
        await store.install(company, made_up_creds(), BEFORE)
    await now.in_state("online")
    await on_files(now, COMPANIES)
    for company in COMPANIES:
        await now.service.vault.set_keys(company, ON_FILES)


async def killed_at(settings: Settings, moment: Moment) -> Mode | None:
    """Go back by the command and kill it at the moment; how the node stands then."""
    file = ModeFile(settings.state_dir)
    _, said = await ended(settings, lambda: moment(file.read()), "to-postgres")
    assert moment(file.read()), said
    return file.read()


async def alone_at(settings: Settings, moment: Moment) -> Mode | None:
    """Go back by the command and kill the service that it asks; how the node stands then."""
    file = ModeFile(settings.state_dir)
    code, said = await ended_alone(settings, lambda: moment(file.read()), "to-postgres")
    left = file.read()
    assert moment(left), said
    assert b"Traceback" not in said
    # Killed at the last step of all, the service has answered or has not: the node is back either way.
    assert left is None or code not in (0, 1), said
    return left


async def states(store: PostgresAuthStore) -> list[object]:
    return [values(await store.snapshot(company)) for company in COMPANIES]


async def check(
    settings: Settings, options: DatabaseOptions, store: PostgresAuthStore, killed: Killed, moment: Moment
) -> None:
    """Killed there, every company is wholly old or wholly new; run again, or started, nothing is missing."""
    async with running(settings.state_dir, options, schedule="off") as now:
        await written_on_files(now, store)
    assert await states(store) == [OLD] * len(COMPANIES)
    left = await killed(settings, moment)
    for company, found in zip(COMPANIES, await states(store), strict=True):
        assert found in (OLD, NEW)
        if left is None or company in left.done:
            assert found == NEW
    if left is not None:
        assert (await returned(settings)).ok
    async with running(settings.state_dir, options, schedule="off") as now:
        await now.in_state("online")
        await until(lambda: all(not one.pending for one in now.service.vault.holdings()))
    assert await states(store) == [NEW] * len(COMPANIES)
    assert ModeFile(settings.state_dir).read() is None


async def test_a_killed_way_back_goes_on(
    settings: Settings, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """Half of the companies are back: the others stay as they are until it is run again."""
    await check(settings, database_options, store, killed_at, MOMENTS["half"])


async def test_a_way_back_whose_service_is_killed_goes_on(
    settings: Settings, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """The command says so and fails; what the service had acknowledged on files is there when it starts again."""
    await check(settings, database_options, store, alone_at, MOMENTS["half"])


@pytest.mark.chaos
@pytest.mark.parametrize("killed", [killed_at, alone_at])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_at_any_step(
    settings: Settings,
    database_options: DatabaseOptions,
    store: PostgresAuthStore,
    moment: str,
    killed: Killed,
) -> None:
    """Still each company is whole, and the end is the same."""
    await check(settings, database_options, store, killed, MOMENTS[moment])


async def test_a_service_outlives_the_command_that_asked(
    settings: Settings, database_options: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """It stays on files, its sessions write on, a second command beside the first is refused, and the next one ends
    what was begun."""
    async with running(settings.state_dir, database_options, schedule="off") as now:
        await written_on_files(now, store)
        going = asyncio.create_task(returned(settings))
        await until(lambda: bool(now.service.files.mode and now.service.files.mode.done))
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        with ModeFile(settings.state_dir).locked(), pytest.raises(JobRunning):
            ModeFile(settings.state_dir).locked().__enter__()
        assert now.service.vault.outage.state == "outage"
        await now.service.vault.set_keys(COMPANIES[0], {"session": {"b": b'{"n":3}'}})
        assert (await returned(settings)).ok
        assert now.service.vault.outage.state == "online"
        await until(lambda: all(not one.pending for one in now.service.vault.holdings()))
    assert await states(store) == [NEW] * len(COMPANIES)


async def test_a_database_that_dies_amid_the_import_leaves_the_node_on_files(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """What it has taken by then is whole; once it is back the next command ends what was begun."""
    settings = settings_of(state, proxied)
    async with running(state, proxied, schedule="off") as now:
        await written_on_files(now, store)
        going = asyncio.create_task(returned(settings))
        await until(lambda: bool(now.service.files.mode and now.service.files.mode.done))
        await proxy.close()
        with pytest.raises((EmergencyFailed, EmergencyRefused)):
            await going
        assert all(found in (OLD, NEW) for found in await states(store))
        assert now.service.files.mode is not None
        await proxy.listen()
        assert (await returned(settings)).ok
    assert await states(store) == [NEW] * len(COMPANIES)
