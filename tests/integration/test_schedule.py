"""Jobs at their times, against a real PostgreSQL; the clock of cron is the test's."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from standfast.alert import Alert
from standfast.errors import BackupFailed
from standfast.jobs.backup.alarms import made_elsewhere
from standfast.jobs.context import JobContext
from standfast.jobs.progress import Progress
from standfast.jobs.schedule.records import Records, Run
from standfast.jobs.schedule.scheduler import Pace, Scheduler
from standfast.jobs.schedule.table import Job
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.settings import Settings
from standfast.settings.cron import Cron
from tests.integration.services import running, short_directory
from tests.support import Proxy, until

QUICK = Pace(delay_s=0.0, tick_s=0.05, spread_s=0.0, late_s=60.0, stop_s=5.0)
HOURLY = Cron("0 * * * *", ZoneInfo("UTC"))
HOUR = 3600.0


class _Node:
    """A scheduler of one job, whose clock is `ahead` of the machine's."""

    def __init__(
        self, database: Database, state: Path, *, node: str | None = None, pace: Pace = QUICK
    ) -> None:
        self.ran: list[str] = []
        self.alerts: list[Alert] = []
        self.ahead = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self._settings = Settings(state_dir=state)
        self._database = database
        self.records = Records(database, node or str(uuid.uuid4()), "one")
        self.job = Job("tidy", self._work, HOURLY, "0 * * * *")
        self.scheduler = Scheduler([self.job], self.records, self, self._context, pace, self._wall)

    def take(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def _wall(self) -> float:
        return time.time() + self.ahead

    async def _work(self, context: JobContext) -> str:
        self.ran.append(context.node)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return "tidied"

    @contextlib.asynccontextmanager
    async def _context(self, progress: Progress) -> AsyncIterator[JobContext]:
        yield JobContext(self._settings, self._database, self, self.records.node, "one", progress)

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        self.scheduler.start()
        try:
            yield
        finally:
            await self.scheduler.stop()

    async def last(self) -> Run | None:
        found = await self.records.last_runs()
        return found[0] if found else None


async def _known_since(node: _Node, hours: int) -> None:
    """As if the schedule had run well until so many hours ago."""
    due = HOURLY.last(time.time() - hours * HOUR)
    assert due is not None
    await node.records.first("tidy", due)


async def _rounds(node: _Node, count: int = 3) -> None:
    """So many looks at what is due."""
    looks, claimed = 0, node.scheduler._consider

    async def counted(job: Job) -> None:
        nonlocal looks
        await claimed(job)
        looks += 1

    node.scheduler._consider = counted  # type: ignore[method-assign]
    await until(lambda: looks >= count)


async def test_a_new_installation_begins_with_the_next_time(database: Database, tmp_path: Path) -> None:
    """What was due before the schedule was known is not caught up on."""
    node = _Node(database, tmp_path)
    async with node.going():
        await _rounds(node)
    assert node.ran == []
    assert await node.last() is None


async def test_what_was_missed_is_caught_up_on_once_by_one_of_a_fleet(
    database: Database, tmp_path: Path
) -> None:
    """Five times were missed: one run, on one of two nodes; a clock that is set back runs nothing again."""
    one, two = _Node(database, tmp_path), _Node(database, tmp_path)
    await _known_since(one, 5)
    async with one.going(), two.going():
        await until(lambda: bool(one.ran or two.ran))
        await asyncio.gather(_rounds(one), _rounds(two))
        one.ahead = two.ahead = -2 * HOUR
        await asyncio.gather(_rounds(one), _rounds(two))
    assert len(one.ran) + len(two.ran) == 1
    last = await one.last()
    assert last is not None
    assert (last.outcome, last.message) == ("done", "tidied")


async def test_what_could_not_begin_is_told(
    proxied: DatabaseOptions, proxy: Proxy, database: Database, tmp_path: Path
) -> None:
    """PostgreSQL is away when a job is due: told once it was awaited for a while, by a process that was there for so
    long, and over when the job has run."""
    async with Database(replace(proxied, connect_timeout_s=0.5, checkout_timeout_s=0.5)) as away:
        node = _Node(away, tmp_path, pace=replace(QUICK, late_s=1.0))
        await _known_since(_Node(database, tmp_path), 2)
        await proxy.close()
        begun = time.monotonic()
        async with node.going():
            await until(lambda: any(one.name == "job_missed" for one in node.alerts))
            assert time.monotonic() - begun >= 1.0
            await proxy.listen()
            await until(lambda: bool(node.ran))
            await until(lambda: any("job_missed" in one.ends for one in node.alerts))


async def test_a_clock_of_the_future_does_not_keep_jobs_from_running(
    database: Database, tmp_path: Path
) -> None:
    """A node whose clock is a day ahead runs nothing, and leaves nothing by which others would wait that day."""
    node = _Node(database, tmp_path)
    await _known_since(node, 2)
    node.ahead = 24 * HOUR
    async with node.going():
        await _rounds(node)
        assert node.ran == []
        node.ahead = 0.0
        await until(lambda: bool(node.ran))


async def test_a_stop_is_on_record_and_the_job_is_caught_up_on(database: Database, tmp_path: Path) -> None:
    """The service stops while a job runs: the job is cancelled, PostgreSQL knows, and the next start runs it."""
    node = _Node(database, tmp_path)
    await _known_since(node, 2)
    node.gate.clear()
    async with node.going():
        await until(lambda: bool(node.ran))
    stopped = await node.last()
    assert stopped is not None
    assert stopped.outcome == "skipped"
    assert "stopped" in (stopped.message or "")
    again = _Node(database, tmp_path, node=node.records.node)
    async with again.going():
        await until(lambda: bool(again.ran))
    assert len(again.ran) == 1
    last = await again.last()
    assert last is not None
    assert (last.outcome, last.due_at) == ("done", stopped.due_at)


async def test_a_killed_process_leaves_a_failure_that_is_told(database: Database, tmp_path: Path) -> None:
    """What a killed process left without an end is closed by the next one as failed, and not begun again."""
    killed = _Node(database, tmp_path)
    due = HOURLY.last(time.time())
    assert due is not None
    assert await killed.records.claim("tidy", due)
    node = _Node(database, tmp_path, node=killed.records.node)
    async with node.going():
        await _rounds(node)
    assert node.ran == []
    last = await node.last()
    assert last is not None
    assert last.outcome == "failed"
    assert [alert.name for alert in node.alerts if alert.lasts] == ["job_failed"]


async def test_a_failure_is_told_and_ended_by_the_next_run(database: Database, tmp_path: Path) -> None:
    """A job that fails is an alert with its next step and a row; asked for again, it runs and ends the alert."""
    node = _Node(database, tmp_path)
    await _known_since(node, 1)
    node.error = BackupFailed("the disk is full", next_step="Make room.")
    async with node.going():
        await until(lambda: bool(node.alerts))
        assert (node.alerts[-1].name, node.alerts[-1].facts["next_step"]) == ("job_failed", "Make room.")
        node.error = None
        await until(lambda: node.scheduler.running is None)
        node.scheduler.ask("tidy")
        await until(lambda: any("job_failed" in alert.ends for alert in node.alerts))
    last = await node.last()
    assert last is not None
    assert last.outcome == "done"


async def test_a_failure_is_ended_by_a_good_run_of_another_node(database: Database, tmp_path: Path) -> None:
    """Both alerts: the schedule's, and those of a job that tells of its failures itself."""
    node, other = _Node(database, tmp_path), _Node(database, tmp_path)
    node.scheduler.jobs = [replace(node.job, well=made_elsewhere)]
    await _known_since(node, 1)
    node.error = BackupFailed("the disk is full")
    async with node.going():
        await until(lambda: bool(node.alerts))
        await _rounds(node)
        assert [alert.name for alert in node.alerts] == ["job_failed"]
        await other.scheduler.run_now(other.job)
        await until(lambda: len(node.alerts) > 2)
    assert [alert.ends for alert in node.alerts[1:]] == [("job_failed", "job_missed"), ("backup_failed",)]


async def test_a_service_runs_a_backup_when_asked(database_options: DatabaseOptions) -> None:
    """A running service takes the request, makes the backup with a pool of its own, and tells of it; health
    sees it before its look of every minute."""
    with short_directory() as state:
        async with running(state, database_options) as here:
            keeping = here.service.keeping
            keeping.scheduler._pace = QUICK
            keeping.scheduler.ask("backup")

            async def ended() -> bool:
                document: dict[str, Any] = await keeping._list(None, None)  # type: ignore[arg-type]
                last = document["jobs"][0]["last"]
                return last is not None and last["outcome"] is not None

            await until(ended, 30)
            document = await keeping._list(None, None)  # type: ignore[arg-type]
            assert document["jobs"][0]["job"] == "backup"
            assert document["jobs"][0]["last"]["outcome"] == "done", document["jobs"][0]["last"]
            assert len(list((state / "backups").glob("2*"))) == 1
            figures = keeping.figures()
            assert figures.runs == {("backup", "done"): 1}
            assert figures.last["backup"].outcome == "done"
            assert figures.last["backup"].duration_s > 0

            def is_seen() -> bool:
                section = here.service.picture.health().backups
                return section is not None and section.count == 1

            await until(is_seen, 8)


async def test_a_new_backup_goes_to_the_remotes_at_once(
    database_options: DatabaseOptions, tmp_path: Path
) -> None:
    """A service with a remote sends what its schedule has made, without waiting for the next look, and its health tells
    both at once: the look once a minute would be too late here."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    remotes: dict[str, Any] = {"backup_remotes": f"file://{elsewhere}", "backup_recipients": "none"}
    with short_directory() as state:
        async with running(state, database_options, **remotes) as here:
            here.service.keeping.scheduler.ask("backup")
            await until(lambda: any(elsewhere.rglob("manifest.json")), 30)

            def told() -> bool:
                section = here.service.picture.health().backups
                assert section is not None
                assert section.change_log is not None
                assert section.change_log.on
                assert section.next_at is not None
                (remote,) = section.remotes
                return section.count == 1 and remote.up_to_date is True and remote.sent_at is not None

            await until(told, 8)
