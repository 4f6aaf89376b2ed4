"""A switch to files that is killed: the command in a process of its own, ended by SIGKILL."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from standfast.authstate.company import Company
from standfast.authstate.multifile import import_folder
from standfast.errors import JobRunning
from standfast.jobs.emergency.mode import ModeFile
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.settings import Settings
from tests.integration.emergency_process import ended, ended_alone
from tests.integration.services import running, settings_of
from tests.integration.test_emergency_to_files import CREDS, over
from tests.support import until

COMPANIES = [Company(f"c{number:02d}") for number in range(12)]
KEYS = {"pre-key": {str(number): b'{"k":7}' for number in range(30)}}
Moment = Callable[[Path], bool]
MOMENTS: dict[str, Moment] = {
    "writing": lambda state: any((state / "emergency").glob(".staging-*/c*")),
    "written": lambda state: len([*(state / "emergency").glob(".staging-*/c*")]) == len(COMPANIES),
    "noted": lambda state: (state / "emergency/.switch.json").exists(),
    "placing": lambda state: any((state / "emergency").glob(".kept/*/c*")),
    "switched": lambda state: (state / "emergency.json").exists(),
}


@pytest.fixture
async def settings(state: Path, database_options: DatabaseOptions, store: PostgresAuthStore) -> Settings:
    """Companies in the vault, a folder that stands where one of theirs will."""
    for company in COMPANIES:
        await store.install(company, CREDS, KEYS)
    async with running(state, database_options) as now:
        await now.in_state("online")
        for company in COMPANIES:
            assert await now.service.vault.open(company)
    mine = state / "emergency" / COMPANIES[3]
    mine.mkdir(parents=True)
    (mine / "mine").write_text("")
    return settings_of(state, database_options)


async def killed_at(settings: Settings, moment: Moment, *options: str) -> None:
    """Go over by the command and kill it at the moment, or see it end before."""
    code, said = await ended(settings, lambda: moment(settings.state_dir), "to-files", *options)
    assert code in (-signal.SIGKILL, 0), said


def is_as_before(state: Path) -> bool:
    """Nothing of a switch is left, and what stood there stands there."""
    mine = state / "emergency" / COMPANIES[3]
    left = sorted(path.name for path in (state / "emergency").iterdir())
    return left == [COMPANIES[3]] and [path.name for path in mine.iterdir()] == ["mine"]


def is_switched(state: Path) -> bool:
    """Every company has its folder, and what stood there is kept."""
    folders = [import_folder(state / "emergency" / company).key_count for company in COMPANIES]
    kept = [*(state / "emergency").glob(f".kept/*/{COMPANIES[3]}/mine")]
    return folders == [30] * len(COMPANIES) and len(kept) == 1


async def check(settings: Settings, moment: Moment) -> None:
    """Killed there, the next service begins as before or on files, and a new command comes to the end."""
    state = settings.state_dir
    await killed_at(settings, moment)
    stands = ModeFile(state).read() is not None
    async with running(state, None, database_url=settings.database_url) as now:
        assert (now.service.vault.detached is not None) is stands
        assert is_switched(state) if stands else is_as_before(state)
    if not stands:
        assert (await over(settings)).ok
    assert is_switched(state)
    assert not [*(state / "emergency").glob(".s*")]


async def test_a_running_service_undoes_what_a_killed_command_has_begun(settings: Settings) -> None:
    """It goes on with PostgreSQL, and nothing is left a moment after the command has gone."""
    state = settings.state_dir
    async with running(state, None, database_url=settings.database_url) as now:
        await now.in_state("online")
        await killed_at(settings, MOMENTS["writing"])
        await until(lambda: is_as_before(state) or ModeFile(state).read() is not None)
        assert (now.service.vault.detached is not None) is (ModeFile(state).read() is not None)


async def test_a_directory_that_only_the_killed_command_named_is_cleared_too(settings: Settings) -> None:
    """The next start knows where it was, and leaves nothing there."""
    state, root = settings.state_dir, settings.state_dir / "elsewhere"
    await killed_at(settings, lambda _: any(root.glob(".staging-*/c*")), "--dir", str(root))
    async with running(state, None, database_url=settings.database_url):
        assert ModeFile(state).read() is not None or not [*root.iterdir()]


async def test_one_switch_at_a_time(settings: Settings) -> None:
    """While another command is at it, this one ends with an error that says so."""
    with ModeFile(settings.state_dir).locked():
        code, said = await ended(settings, lambda: False, "to-files")
    assert code == JobRunning.exit_code, said
    assert b"emergency" in said
    assert is_as_before(settings.state_dir)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_kill_at_any_step(settings: Settings, moment: str) -> None:
    """Wholly before, or wholly after; and the end is the same."""
    await check(settings, MOMENTS[moment])


@pytest.mark.chaos
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_service_that_is_killed_at_any_step(settings: Settings, moment: str) -> None:
    """The command ends with an error, or the switch stands; the next service begins wholly before or wholly after."""
    state = settings.state_dir
    code, said = await ended_alone(settings, lambda: MOMENTS[moment](state), "to-files")
    stands = ModeFile(state).read() is not None
    assert b"Traceback" not in said
    assert stands or code not in (0, 1), said
    async with running(state, None, database_url=settings.database_url) as now:
        assert (now.service.vault.detached is not None) is stands
        assert is_switched(state) if stands else is_as_before(state)
    assert stands or (await over(settings)).ok
    assert is_switched(state)
