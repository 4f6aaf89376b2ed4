"""What tests of the way back share: a node on files, a session that writes all the time, no questions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.jobs.emergency.comparison import Wish
from standfast.jobs.emergency.mode import FORMAT, Mode, Placed
from standfast.jobs.emergency.return_look import Outlook
from standfast.jobs.emergency.return_report import ReturnReport
from standfast.jobs.emergency.to_postgres import ToPostgres
from standfast.jobs.progress import Silent
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.service.returning import returning_context
from standfast.settings import Settings
from tests.integration.services import ACME, Running, running
from tests.support import until


async def on_files(now: Running, companies: Sequence[Company] = (ACME,)) -> None:
    """Open these companies, and stand on files with them; their folders come of themselves."""
    vault, placed = now.service.vault, {}
    await until(lambda: vault.replica.database is not None)
    for company in companies:
        if (holding := vault.held.get(company)) is None or not holding.is_open:
            await vault.open(company)
        record = vault.replica.record(company)
        assert record is not None
        placed[str(company)] = Placed("replica", record.epoch, record.sequence, str(company))
    root = now.service.settings.state_dir / "emergency"
    root.mkdir(mode=0o700, exist_ok=True)
    await now.service.files.enter(Mode(FORMAT, "e1", "files", time.time(), str(root), placed))


async def looked(settings: Settings, wish: Wish | None = None, **options: bool) -> Outlook:
    async with returning_context(settings, Silent(), LoggedAlerts()) as (context, node):
        return await ToPostgres(context, node, wish or Wish(), **options).look()


async def returned(
    settings: Settings, wish: Wish | None = None, shown: Outlook | None = None, **options: bool
) -> ReturnReport:
    """Go back with whatever the comparison says, or said."""
    async with returning_context(settings, Silent(), LoggedAlerts()) as (context, node):
        job = ToPostgres(context, node, wish or Wish(), **options)
        return await job.run(shown or await job.look())


class Ledger:
    """What a session was told is durable."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}
        self.is_ending = False


@contextlib.asynccontextmanager
async def writing(now: Running, company: Company = ACME) -> AsyncIterator[Ledger]:
    """A session that writes every few milliseconds, each time another key or a key anew."""
    ledger = Ledger()

    async def write() -> None:
        for count in itertools.takewhile(lambda _: not ledger.is_ending, itertools.count()):
            key_id, value = f"w{count % 50}", b'{"n":%d}' % count
            await now.service.vault.set_keys(company, {"session": {key_id: value}})
            ledger.written[key_id] = value
            await asyncio.sleep(0.002)

    task = asyncio.create_task(write())
    try:
        yield ledger
    finally:
        ledger.is_ending = True
        await task


async def sessions(store: PostgresAuthStore, company: Company = ACME) -> dict[str, object]:
    """The company's sessions as PostgreSQL has them."""
    found = await store.snapshot(company)
    assert found is not None
    return {key: json.loads(value) for key, value in found.keys.get("session", {}).items()}


async def stopped_on_files(state: Path, options: DatabaseOptions) -> None:
    """A service stood on files, with a write of its own, and has ended."""
    async with running(state, options, schedule="off") as now:
        await now.in_state("online")
        await on_files(now)
        await now.service.vault.set_keys(ACME, {"session": {"ours": b'{"n":9}'}})
    with_lease = "update standfast_nodes set alive_until = now() - interval '1 s'"
    async with Database(options) as database:
        await database.fetch(Statement("test.lapsed", with_lease))
