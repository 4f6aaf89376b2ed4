"""The embedded server under supervision: it comes back, and says so once."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standfast.errors import StandfastError
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.pool import Database
from standfast.postgres.processes import working_in
from standfast.postgres.supervisor import Supervisor
from tests.support import until, works


@pytest.fixture
async def told() -> list[StandfastError | None]:
    return []


@pytest.fixture
async def supervisor(tmp_path: Path, told: list[StandfastError | None]) -> AsyncIterator[Supervisor]:
    made = Supervisor(EmbeddedServer(tmp_path / "state", durable=False), told.append)
    yield made
    await made.stop()


async def test_a_killed_server_is_back_within_seconds(
    supervisor: Supervisor, told: list[StandfastError | None]
) -> None:
    """SIGKILL: it is told that the server ended and how, the server is started again, and that is told too."""
    assert await supervisor.start() is None
    assert told == []
    async with Database(supervisor.server.options) as database:
        await database.ping()
        for round_ in (1, 2):
            before = supervisor.server.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            await until(lambda count=2 * round_: len(told) == count)  # type: ignore[misc]
            assert supervisor.server.pid not in (None, before)
            await until(lambda: works(database))
    ended, back, *_ = told
    assert ended is not None
    assert "SIGKILL" in ended.message
    assert back is None
    assert supervisor.restarts == 2


async def test_a_server_that_cannot_start_is_tried_again(
    supervisor: Supervisor, told: list[StandfastError | None]
) -> None:
    """Told once however often it fails; once the obstacle is gone it starts by itself."""
    data = supervisor.server.data_dir
    data.mkdir(parents=True)
    (data / "note").write_text("in the way")
    failure = await supervisor.start()
    assert failure is not None
    assert "not a PostgreSQL data directory" in failure.message
    await until(lambda: supervisor.restarts >= 2)
    assert [error and error.message for error in told] == [failure.message]
    (data / "note").unlink()
    data.rmdir()
    await until(lambda: told[-1] is None)
    assert supervisor.server.running


async def test_stopping_ends_a_server_that_is_just_starting(supervisor: Supervisor) -> None:
    """Nothing is left behind, and nothing comes back."""
    assert await supervisor.start(patience_s=0.05) is None
    await supervisor.stop()
    assert not supervisor.server.running
    assert working_in(supervisor.server.data_dir) == []
