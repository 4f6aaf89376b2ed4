"""A backup that fails: each fault made for real, and what is left afterwards."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest

import standfast
from standfast.errors import (
    BackupFailed,
    ClientToolsMismatch,
    DatabaseRejected,
    DatabaseUnavailable,
    SettingsError,
    StandfastError,
)
from standfast.jobs.backup.run import run_backup
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from tests.backing_up import Job, caught, execute, fill, found_good, job
from tests.integration.services import settings_of
from tests.pooler import Relay
from tests.postgres_clients import client_programs
from tests.support import until

COMPANIES = 300  # enough for pg_dump to be caught at work
SECRET = "hunter2-marker"
SOURCES = str(Path(standfast.__file__).parents[1])


@pytest.fixture
def ready(database: Database, database_options: DatabaseOptions, tmp_path: Path) -> Job:
    fill(database_options, COMPANIES)
    return job(tmp_path / "backups", database)


async def fails(of: Job, kind: type[StandfastError], match: str, *, stall_s: float = 5.0) -> StandfastError:
    """A good backup is there; another one fails as said, alerts, and leaves what was there as it was."""
    if not of.names():
        await run_backup(of.context, validate=found_good)
    before, content = of.names(), of.catalogue().get("latest").content.read_bytes()
    with pytest.raises(kind, match=match) as failure:
        await run_backup(of.context, validate=found_good, stall_s=stall_s)
    assert of.names() == before
    assert of.catalogue().get("latest").content.read_bytes() == content
    alert = of.sink.alerts[-1]
    assert (alert.name, alert.lasts, alert.facts["next_step"]) == (
        "backup_failed",
        True,
        failure.value.next_step,
    )
    assert "the newest good one is 0.0 h old" in alert.message
    return failure.value


@pytest.mark.parametrize("major", [15, 16])
async def test_an_older_pg_dump_is_never_run(ready: Job, major: int) -> None:
    """Server 18 against clients 15 and 16: refused before anything is written, with the package to install."""
    old = job(ready.root, ready.database, pg_bin_dir=client_programs(major))
    with pytest.raises(ClientToolsMismatch, match=rf"PostgreSQL 18.*{major}\.\d+ in ") as failure:
        await run_backup(old.context)
    assert "postgresql-client-18" in failure.value.next_step
    assert not ready.root.exists()
    assert old.sink.names == ["backup_failed"]
    said = run([str(client_programs(major) / "pg_dump"), "-Fc", "-d", ready.database.options.to_conninfo()])
    assert "server version mismatch" in said  # what it is spared


async def test_a_missing_pg_dump_is_named(ready: Job, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    without = job(ready.root, ready.database, pg_bin_dir=tmp_path / "empty")
    with pytest.raises(ClientToolsMismatch, match="no pg_dump"):
        await run_backup(without.context)
    assert not ready.root.exists()


async def test_a_pg_dump_that_is_killed_half_way_makes_no_backup(ready: Job) -> None:
    await run_backup(ready.context, validate=found_good)
    with caught(signal.SIGKILL):
        await fails(ready, BackupFailed, "pg_dump was killed")


async def test_a_pg_dump_that_hangs_is_ended(ready: Job) -> None:
    """It was stopped, and would stand there for ever."""
    await run_backup(ready.context, validate=found_good)
    with caught(signal.SIGSTOP) as dump:
        await fails(ready, BackupFailed, "no progress for 0.4 s", stall_s=0.4)
    assert dump.process is not None
    assert not dump.process.is_running()


@pytest.fixture
def less(database_options: DatabaseOptions) -> Iterator[DatabaseOptions]:
    """An account that may read and write every table, and no more."""
    name = f"half_{database_options.dbname}"
    execute(
        database_options,
        f"create role {name} login password '{SECRET}'",
        f"grant all on all tables in schema public to {name}",
    )
    yield replace(database_options, user=name, password=SECRET)
    execute(database_options, f"drop owned by {name}", f"drop role {name}")


async def test_a_pg_dump_that_fails_tells_why(
    ready: Job, database_options: DatabaseOptions, less: DatabaseOptions
) -> None:
    """In its own words: an older bot's serial column has a sequence, which this account may not read."""
    await run_backup(ready.context, validate=found_good)
    execute(database_options, "alter table whatsapp_auth add column id serial")
    async with Database(less) as database:
        error = await fails(
            job(ready.root, database), BackupFailed, "pg_dump ended with 1: .*privilege on the sequence"
        )
    assert SECRET not in f"{error.message} {error.next_step}"


async def test_rows_that_a_policy_hides_are_not_left_out(
    ready: Job, database_options: DatabaseOptions, less: DatabaseOptions
) -> None:
    """A backup of half the rows would look like one of all."""
    await run_backup(ready.context, validate=found_good)
    execute(
        database_options,
        "alter table whatsapp_keys enable row level security",
        "create policy own on whatsapp_keys using (company_id = 'company-1')",
    )
    async with Database(less) as database:
        await fails(job(ready.root, database), StandfastError, "lacks a right|row-level security")


async def test_a_full_disk_makes_no_backup(ready: Job) -> None:
    """The kernel refuses to let the file grow; what was written of it is gone."""
    await run_backup(ready.context, validate=found_good)
    with limited_files(100_000):
        await fails(ready, BackupFailed, "cannot be written: File too large")


async def test_too_little_room_is_said_before_anything_is_written(
    ready: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    await run_backup(ready.context, validate=found_good)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    await fails(ready, BackupFailed, "1 MB free")


@pytest.mark.parametrize("fault", ["shared", "symlink", "file", "nowhere"])
async def test_a_directory_that_is_not_ours_alone_is_refused(ready: Job, fault: str) -> None:
    """Open to others, a link to elsewhere, no directory, or one that cannot be made."""
    root = ready.root
    if fault == "shared":
        root.mkdir(0o755)
    elif fault == "symlink":
        (root.parent / "real").mkdir(0o700)
        root.symlink_to(root.parent / "real")
    elif fault == "file":
        root.write_text("")
    else:
        root = Path("/proc/1/backups")
    of = job(root, ready.database)
    with pytest.raises(BackupFailed, match=str(root)):
        await run_backup(of.context)
    assert of.sink.names == ["backup_failed"]


async def test_a_wrong_recipient_is_said_before_anything_is_written(ready: Job) -> None:
    of = job(ready.root, ready.database, backup_recipients="age1nonsense")
    with pytest.raises(SettingsError, match="BACKUP_RECIPIENTS"):
        await run_backup(of.context)
    assert not ready.root.exists()


async def test_a_pooler_in_between_is_refused(ready: Job, tcp_options: DatabaseOptions) -> None:
    """A snapshot belongs to one connection of PostgreSQL's."""
    assert tcp_options.host is not None
    assert tcp_options.port is not None
    relay = Relay((tcp_options.host, tcp_options.port))
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    await run_backup(ready.context, validate=found_good)
    async with Database(replace(tcp_options, port=server.sockets[0].getsockname()[1])) as pooled:
        await fails(job(ready.root, pooled), DatabaseRejected, "PgBouncer")
    server.close()
    await asyncio.gather(*relay.serving)


async def test_postgres_that_is_away_is_said(ready: Job, tcp_options: DatabaseOptions) -> None:
    await run_backup(ready.context, validate=found_good)
    async with Database(replace(tcp_options, port=1, statement_timeout_s=0.3)) as away:
        await fails(job(ready.root, away), DatabaseUnavailable, "nothing accepts")


async def test_a_cancelled_run_leaves_nothing_and_tells_nobody(ready: Job) -> None:
    """As Ctrl-C does; pg_dump is ended, and the next run begins at once."""
    with caught(signal.SIGSTOP) as dump:
        running = asyncio.create_task(run_backup(ready.context))
        await until(lambda: dump.process is not None)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert dump.process is not None
    assert not dump.process.is_running()
    assert (ready.names(), ready.sink.alerts) == ([], [])
    await run_backup(ready.context)
    assert len(ready.names()) == 1


async def test_no_password_is_on_a_command_line(ready: Job, tcp_options: DatabaseOptions) -> None:
    """Of any process, while pg_dump is at work with one."""
    assert tcp_options.password
    async with Database(tcp_options) as database:
        of = job(ready.root, database)
        with caught(signal.SIGCONT) as dump:
            await run_backup(of.context)
    assert any("--snapshot" in line for line in dump.command_lines)
    assert not any(tcp_options.password in line for line in dump.command_lines)


async def test_a_killed_command_leaves_nothing_that_counts(
    ready: Job, tcp_options: DatabaseOptions, tmp_path: Path
) -> None:
    """Killed in the middle, with its lock and its duty held: pg_dump ends too, and the next run removes the rest."""
    settings = settings_of(tmp_path / "state", tcp_options)
    assert settings.database_url is not None
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": SOURCES,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "STANDFAST_STATE_DIR": str(settings.state_dir),
        "BACKUP_ROOT": str(ready.root),
    }
    command = started(environment)
    try:
        with caught(signal.SIGSTOP, command.pid) as dump:
            await until(lambda: dump.process is not None)
    finally:
        command.kill()
        command.wait()
    assert dump.process is not None
    dump.process.resume()
    await until(lambda: not _lives(dump.process))
    (left,) = ready.names()
    assert left.endswith(".new")
    assert ready.catalogue().backups() == []
    with psycopg.connect(tcp_options.to_conninfo(), autocommit=True) as connection:
        connection.execute("update standfast_duties set until = now()")  # a minute later
    report = await run_backup(ready.context)
    assert report.left_over == [left]
    assert ready.names() == [report.name]


def run(command: list[str]) -> str:
    """What a program that fails without a byte of output says."""
    ran = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert ran.returncode != 0
    assert ran.stdout == b""
    return ran.stderr.decode()


def started(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "standfast", "backup", "run"], env=environment)


def _lives(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
