"""A backup made of a real PostgreSQL, put into another one, and kept."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import msgspec
import psycopg
import pyrage
import pytest
from psycopg.conninfo import make_conninfo

from standfast.errors import BackupFailed, JobRunning
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.digest import TakenContent, differences, take_content
from standfast.jobs.backup.manifest import MANIFEST, Record, Validation
from standfast.jobs.backup.run import run_backup
from standfast.jobs.backup.sealing import identities, opened
from standfast.jobs.context import JobContext
from standfast.postgres.client_tools import find_client_tools
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from tests.backing_up import Job, execute, fill, found_bad, found_good, job

DAY_S = 86_400.0


@pytest.fixture
def ready(database: Database, database_options: DatabaseOptions, tmp_path: Path) -> Job:
    """Three companies to back up."""
    fill(database_options, 3)
    return job(tmp_path / "backups", database)


@pytest.fixture
def settings_with_identity(tmp_path: Path) -> dict[str, object]:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{identity}\n")
    return {"backup_recipients": str(identity.to_public()), "backup_identity_file": tmp_path / "identity"}


def newest(of: Job) -> Backup:
    return of.catalogue().backups()[0]


def put_into(backup: Backup, context: JobContext, options: DatabaseOptions) -> None:
    """pg_restore from the stream."""
    program = find_client_tools(18).pg_restore
    with opened(backup, identities(context.settings)) as stream:
        subprocess.run(
            [program, "--exit-on-error", "--no-owner", f"--dbname={replace(options).to_conninfo()}"],
            input=stream.read(),
            check=True,
            timeout=30,
        )


async def content_of(options: DatabaseOptions, search_path: str = "public") -> TakenContent:
    conninfo = make_conninfo(options.to_conninfo(), options=f"-c search_path={search_path}")
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        return await take_content(connection)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_is_restored_is_what_was_there_at_one_moment(
    ready: Job,
    database_options: DatabaseOptions,
    bare_database_options: DatabaseOptions,
    settings_with_identity: dict[str, object],
    encrypted: bool,
) -> None:
    """Digest by digest; what was written after the snapshot was taken is in none of its parts."""
    of = job(ready.root, ready.database, **settings_with_identity) if encrypted else ready
    before = await content_of(database_options)
    write = "insert into whatsapp_keys (company_id, key_type, key_id, value) values ('company-1', 'session', 'x', '1')"
    of.steps.on_step = lambda name: execute(database_options, write) if name == "dump" else None
    report = await run_backup(of.context)
    assert (await content_of(database_options)).rows == before.rows + 1
    backup = newest(of)
    manifest = backup.manifest
    assert manifest is not None
    assert report.rows == before.rows == 153
    assert manifest.companies == before.companies
    assert backup.content.read_bytes()[:3] == (b"age" if encrypted else b"\x28\xb5\x2f")
    put_into(backup, of.context, bare_database_options)
    restored = await content_of(bare_database_options)
    assert differences(manifest, restored) == []
    assert restored.digest == manifest.digest
    with psycopg.connect(bare_database_options.to_conninfo()) as connection:
        row = connection.execute("select sentinel::text from standfast_backups").fetchone()
    assert row == (manifest.sentinel,)
    assert of.steps.done == manifest.content.plain_bytes


async def test_a_backup_is_nobody_elses_to_read(ready: Job) -> None:
    """Directories 0700, files 0600; beside them lies only the lock."""
    await run_backup(ready.context)
    modes = {path.name: path.stat().st_mode & 0o777 for path in ready.root.rglob("*")}
    assert all(mode == (0o700 if "Z" in name else 0o600) for name, mode in modes.items())
    assert ready.root.stat().st_mode & 0o777 == 0o700
    assert set(modes) == {".lock", newest(ready).name, "content.dump.zst", MANIFEST}


async def test_tables_of_a_node_bot_are_backed_up_from_where_they_are(
    bare_database_options: DatabaseOptions, other_database_options: DatabaseOptions, tmp_path: Path
) -> None:
    """Text columns, a serial id, another schema; a table of the same database that is none of ours is left out."""
    execute(
        bare_database_options,
        "create schema bot",
        "create table bot.whatsapp_auth (id serial primary key, company_id varchar(80) unique, creds text)",
        "create table bot.whatsapp_keys (id serial primary key, company_id varchar(80), key_type varchar(50),"
        " key_id varchar(200), value text, unique (company_id, key_type, key_id))",
        "create table bot.orders (id int)",
        "insert into bot.whatsapp_auth (company_id, creds) values ('acme', '{ }')",
        "insert into bot.whatsapp_keys (company_id, key_type, key_id, value) values ('acme', 'session','1', '[1, 2 ]')",
    )
    conninfo = make_conninfo(bare_database_options.to_conninfo(), options="-c search_path=bot,public")
    async with Database(DatabaseOptions(conninfo)) as database:
        await migrate(database)
        of = job(tmp_path / "backups", database)
        await run_backup(of.context)
    execute(other_database_options, "drop schema public cascade", "create schema bot")
    put_into(newest(of), of.context, other_database_options)
    manifest = newest(of).manifest
    assert manifest is not None
    assert "orders" not in manifest.tables
    assert manifest.companies["acme"].keys == {"session": 1}
    assert differences(manifest, await content_of(other_database_options, "bot")) == []


async def test_a_dry_run_writes_nothing(ready: Job, database_options: DatabaseOptions) -> None:
    """Neither on the disk nor in the database; it says what a run would do."""
    before = await content_of(database_options)
    report = await run_backup(ready.context, dry_run=True)
    assert report.plan is not None
    assert report.plan.server_version.startswith("18")
    assert report.plan.tables["whatsapp_keys"] > 0
    assert not ready.root.exists()
    assert await content_of(database_options) == before
    assert ready.sink.alerts == []


async def test_only_one_run_at_a_time(
    ready: Job, other_database_options: DatabaseOptions, tmp_path: Path
) -> None:
    """In a fleet (the same database, another directory), and in one directory (another database)."""
    async with Database(other_database_options) as other:
        elsewhere = job(tmp_path / "elsewhere", ready.database)
        beside = job(ready.root, other)
        outcomes = await asyncio.gather(
            run_backup(ready.context),
            run_backup(elsewhere.context),
            run_backup(beside.context),
            return_exceptions=True,
        )
    failures = [one for one in outcomes if isinstance(one, BaseException)]
    assert all(isinstance(one, JobRunning) for one in failures)
    assert len(failures) >= 1
    assert len(ready.names()) + len(elsewhere.names()) == 3 - len(failures)
    assert not ready.sink.names.count("backup_failed")


async def test_older_ones_go_only_after_the_new_one_is_good(ready: Job) -> None:
    """Kept are seven days of good ones; a run whose backup is found bad removes nothing and alerts."""
    await run_backup(ready.context, validate=found_good)
    made = newest(ready)
    assert made.state == "good"
    assert ready.sink.names == ["backup_made"]
    for days in range(1, 10):
        earlier(ready, made, days)
    before = ready.names()
    with pytest.raises(BackupFailed, match="checksum differs"):
        await run_backup(ready.context, validate=found_bad)
    assert set(before) < set(ready.names())
    assert newest(ready).state == "bad"
    assert "backup_failed" in ready.sink.names
    report = await run_backup(ready.context, validate=found_good)
    assert len(report.removed) == 3
    states = [one.state for one in ready.catalogue().backups()]
    assert states.count("good") == 8  # seven days, and the month's first
    assert [alert.ends for alert in ready.sink.alerts if alert.name == "backup_made"] == [
        ("backup_failed",)
    ] * 2


async def test_a_backup_that_nobody_validated_removes_nothing(ready: Job) -> None:
    await run_backup(ready.context, validate=found_good)
    for days in range(1, 10):
        earlier(ready, newest(ready), days)
    report = await run_backup(ready.context)
    assert report.removed == []
    assert newest(ready).state == "unproven"


async def test_an_emptied_database_makes_no_backup_that_counts(
    ready: Job, database_options: DatabaseOptions
) -> None:
    """It is kept as a bad one for a look; half of the rows gone is a good one and a warning."""
    await run_backup(ready.context, validate=found_good)
    execute(database_options, "delete from whatsapp_keys where company_id <> 'company-1'")
    report = await run_backup(ready.context, validate=found_good)
    assert report.oddities == ["53 rows instead of 153"]
    assert ready.sink.names[-2:] == ["backup_odd", "backup_made"]
    execute(database_options, "truncate whatsapp_keys, whatsapp_auth")
    with pytest.raises(BackupFailed, match="holds no company"):
        await run_backup(ready.context, validate=found_good)
    assert [one.state for one in ready.catalogue().backups()] == ["bad", "good", "good"]


def earlier(of: Job, made: Backup, days: int) -> None:
    """A good one of an earlier day."""
    assert made.manifest is not None
    manifest = msgspec.structs.replace(
        made.manifest, snapshot_at=made.manifest.snapshot_at - days * DAY_S, kinds=["daily"]
    )
    manifest.name = f"202001{days:02d}T030000Z"
    path = of.root / manifest.name
    path.mkdir(0o700)
    (path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    of.catalogue().record(manifest.name, Record(validations=[Validation(manifest.snapshot_at, True, 0.0)]))
