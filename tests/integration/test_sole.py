"""One run of a job at a time, in a whole fleet."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from standfast.alert import LoggedAlerts
from standfast.errors import JobRunning
from standfast.jobs.context import JobContext
from standfast.jobs.sole import sole
from standfast.postgres.pool import Database
from standfast.settings import Settings
from tests.integration.aged_keys import run


def context(database: Database) -> JobContext:
    return JobContext(Settings(), database, LoggedAlerts(), str(uuid.uuid4()), "node")


async def test_a_second_run_is_refused(database: Database) -> None:
    """It is told so at once, and may run when the first has ended."""
    one, two = context(database), context(database)
    async with sole(one, "backup"):
        with pytest.raises(JobRunning, match="backup runs already"):
            async with sole(two, "backup"):
                pytest.fail("both ran")
        async with sole(two, "cleanup"):
            pass
    async with sole(two, "backup"):
        pass


async def test_a_run_that_was_forgotten_ends(database: Database) -> None:
    """Stopped for longer than its duty lasts, a run learns that another may have begun, and goes no further."""
    one, two = context(database), context(database)

    async def overtaken() -> None:
        async with sole(one, "backup", ttl_s=0.3):
            await run(database, "update standfast_duties set until = now(), node = $1::uuid", two.node)
            async with sole(two, "backup"):
                await asyncio.sleep(5)

    with pytest.raises(JobRunning, match="half-way"):
        await overtaken()
    async with sole(one, "backup"):
        pass


async def test_a_run_renews_its_duty(database: Database) -> None:
    """A long run stays the only one for longer than the duty's time."""
    one, two = context(database), context(database)
    async with sole(one, "backup", ttl_s=0.3):
        await asyncio.sleep(0.6)
        with pytest.raises(JobRunning):
            async with sole(two, "backup"):
                pytest.fail("both ran")
