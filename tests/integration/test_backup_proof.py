"""What validation and the restore test find, each fault in a real backup."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pyrage
import pytest

from standfast.errors import BackupDamaged, JobRunning, SettingsError
from standfast.jobs.backup.catalogue import Backup
from standfast.jobs.backup.manifest import MANIFEST, Manifest, Validation
from standfast.jobs.backup.restore_test import restore_test
from standfast.jobs.backup.run import run_backup
from standfast.jobs.backup.scratch import scratch_server
from standfast.jobs.backup.validate import validate
from standfast.postgres.binaries import embedded_binaries
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from tests.backing_up import Job, execute, fill, job
from tests.support import until

NODE_BOT = (
    'create schema "the bot\'s"',
    """
    create table "the bot's".whatsapp_auth (
        id serial primary key, company_id varchar(80) unique, creds text, updated_at timestamp default now()
    )
    """,
    """
    create table "the bot's".whatsapp_keys (
        id serial primary key, company_id varchar(80), key_type varchar(50), key_id varchar(200), value text,
        created_at timestamp default now(), unique (company_id, key_type, key_id)
    )
    """,
    """
    insert into "the bot's".whatsapp_keys (company_id, key_type, key_id, value) values ('acme', 'session', '1', '{}')
    """,
)
FUNCTIONS = Statement(
    "test.functions", "select proname, prosrc from pg_proc where proname like 'standfast%' order by oid"
)


@pytest.fixture
def given(database: Database, tmp_path: Path) -> Job:
    """A job on a database of three companies."""
    fill(database.options, 3)
    return job(tmp_path / "backups", database)


async def made(given: Job) -> Backup:
    return given.catalogue().get((await run_backup(given.context)).name)


def change(backup: Backup, edit: Callable[[Manifest], None]) -> None:
    """Rewrite the manifest, as whoever meddles would."""
    assert backup.manifest is not None
    edit(backup.manifest)
    (backup.path / MANIFEST).write_bytes(msgspec.json.encode(backup.manifest))


def cut(backup: Backup) -> None:
    os.truncate(backup.content, backup.content.stat().st_size - 1)


def flip(backup: Backup) -> None:
    data = bytearray(backup.content.read_bytes())
    data[len(data) // 2] ^= 1
    backup.content.write_bytes(data)


def exchange(backup: Backup) -> None:
    """Another file, with its own size and checksum in the manifest."""
    backup.content.write_bytes(b"no archive of pg_dump's" * 100)

    def edit(manifest: Manifest) -> None:
        data = backup.content.read_bytes()
        manifest.content.bytes, manifest.content.sha256 = len(data), hashlib.sha256(data).hexdigest()

    change(backup, edit)


def rename(backup: Backup) -> None:
    change(backup, lambda manifest: setattr(manifest, "name", "20200101T000000Z"))


def other_sentinel(backup: Backup) -> None:
    change(backup, lambda manifest: setattr(manifest, "sentinel", "00000000-0000-0000-0000-000000000000"))


def more_rows(backup: Backup) -> None:
    change(backup, lambda manifest: manifest.tables.update(whatsapp_keys=151))


def more_tables(backup: Backup) -> None:
    change(backup, lambda manifest: manifest.tables.update(standfast_more=0))


def later_format(backup: Backup) -> None:
    change(backup, lambda manifest: setattr(manifest, "format", 2))


def no_content(backup: Backup) -> None:
    backup.content.unlink()


FAULTS = {
    cut: "bytes instead of",
    flip: "checksum|decompressed",
    exchange: "cannot be decompressed",
    rename: "another backup",
    other_sentinel: "another backup",
    more_rows: "150 rows instead of 151",
    more_tables: "standfast_more is missing",
    later_format: "format 2",
    no_content: "cannot be read",
}


async def test_each_fault_is_found_marked_and_told(given: Job) -> None:
    """A good backup is good; with any fault it is bad, and an alert says so until it is whole again."""
    name = (await made(given)).name
    whole = given.root.parent / "whole"
    shutil.copytree(given.root / name, whole)

    async def validated() -> Validation:
        return await validate(given.context, given.catalogue().find(name))

    assert (await validated()).ok
    assert given.catalogue().get(name).state == "good"
    for fault, found in FAULTS.items():
        fault(given.catalogue().get(name))
        verdict = await validated()
        assert not verdict.ok, fault.__name__
        assert re.search(found, verdict.message), (fault.__name__, verdict.message)
        assert given.catalogue().find(name).state == "bad"
        assert given.sink.names[-2:] == ["backup_validated", "backup_bad"]
        for file in whole.iterdir():
            shutil.copy(file, given.root / name)
        assert (await validated()).ok
        assert given.sink.alerts[-1].ends == ("backup_bad",)


async def test_what_cannot_be_opened_here_is_sealed_and_not_bad(database: Database, tmp_path: Path) -> None:
    """Without an identity the checksum is checked, and only that is claimed. A wrong identity is told of. With the
    right one the backup is read to its end."""
    fill(database.options, 1)
    identity, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    (tmp_path / "right").write_text(str(identity))
    (tmp_path / "wrong").write_text(str(other))
    root, to = tmp_path / "backups", str(identity.to_public())
    sealed = job(root, database, backup_recipients=to)
    backup = await made(sealed)
    verdict = await validate(sealed.context, backup)
    assert (verdict.ok, verdict.sealed) == (True, True)
    with pytest.raises(SettingsError, match="BACKUP_IDENTITY_FILE"):
        await restore_test(sealed.context, backup, None)
    assert sealed.sink.names[-1] == "restore_test_not_possible"
    wrong = job(root, database, backup_identity_file=tmp_path / "wrong")
    assert (await validate(wrong.context, backup)).sealed
    assert "backup_not_opened" in wrong.sink.names
    right = job(root, database, backup_identity_file=tmp_path / "right")
    verdict = await validate(right.context, backup)
    assert (verdict.ok, verdict.sealed) == (True, False)
    flip(backup)
    assert not (await validate(sealed.context, backup)).ok
    assert not (await validate(right.context, backup)).ok


async def test_a_restore_compares_row_by_digest_and_leaves_nothing(
    database: Database, tmp_path: Path
) -> None:
    """Tables of an older bot in a schema of their own come back as they were. Another digest in the manifest fails the
    test, which is recorded, told, and marks nothing else."""
    execute(database.options, *NODE_BOT)
    path = database.options.to_conninfo() + """ options='-csearch_path="the\\\\\\ bot\\'s",public'"""
    async with Database(DatabaseOptions(conninfo=path, statement_timeout_s=30.0)) as theirs:
        given = job(tmp_path / "backups", theirs)
        backup = await made(given)
    assert backup.manifest is not None
    assert backup.manifest.tables["whatsapp_keys"] == 1
    test = await restore_test(given.context, backup, None)
    assert test.ok, test.message
    assert (test.rows, test.companies) == (1, 1)
    change(backup, lambda manifest: setattr(manifest.companies["acme"], "digest", "0" * 32))
    test = await restore_test(given.context, backup, None)
    assert not test.ok
    assert "acme has other contents" in test.message
    assert [one.ok for one in given.catalogue().get(backup.name).record.restore_tests] == [True, False]
    assert given.sink.names[-2:] == ["restore_test_done", "restore_test_failed"]
    assert given.names() == [".scratch-restore-test.lock", backup.name]


HOLD = """
import asyncio, sys
from pathlib import Path
from standfast.jobs.backup.scratch import scratch_server

async def hold():
    async with scratch_server(Path(sys.argv[1]), "held", 18, plain_bytes=0) as scratch:
        print(scratch.options.host, flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


async def test_a_server_left_by_a_killed_run_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """One at a time, reached by nobody else; after a kill the next run finds a clean place, and nothing stays."""
    root = tmp_path / "backups"
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(root), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline()
    postmaster = int((root / ".scratch-held" / "postgres" / "postmaster.pid").read_text().split()[0])
    with pytest.raises(JobRunning):
        async with scratch_server(root, "held", 18, plain_bytes=0):
            pytest.fail("two at once")
    holder.send_signal(signal.SIGKILL)
    await holder.wait()
    (root / ".scratch-held" / "postgres" / "left").touch()
    async with scratch_server(root, "held", 18, plain_bytes=0) as scratch:
        assert scratch.major == 18
        assert not (root / ".scratch-held" / "postgres" / "left").exists()
        assert (root / ".scratch-held").stat().st_mode & 0o077 == 0
        await until(lambda: not psutil.pid_exists(postmaster), 5.0)
    assert sorted(one.name for one in root.iterdir()) == [".scratch-held.lock"]


@pytest.mark.skipif(
    not Path("/usr/lib/postgresql/15/bin/initdb").exists(), reason="PostgreSQL 15 is not installed here"
)
async def test_a_backup_of_an_older_server_goes_into_one_of_its_version(tmp_path: Path) -> None:
    """What our pg_restore, which is newer, says to it that it does not know is no failure."""
    root = tmp_path / "backups"
    async with (
        scratch_server(root, "source", 15, plain_bytes=0) as scratch,
        Database(scratch.options) as database,
    ):
        await migrate(database)
        given = job(root, database, pg_bin_dir=embedded_binaries())
        backup = await made(given)
        functions = await database.fetch(FUNCTIONS)
    assert len(functions) > 10
    test = await restore_test(given.context, backup, None)
    assert test.ok, test.message


async def test_a_damaged_manifest_is_no_restore_test(given: Job) -> None:
    """It says what is wrong and starts nothing."""
    backup = await made(given)
    (backup.path / MANIFEST).write_text("{")
    with pytest.raises(BackupDamaged):
        await restore_test(given.context, given.catalogue().find(backup.name), None)
