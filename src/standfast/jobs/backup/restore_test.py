"""A backup restored into a throwaway server, compared with its manifest, and logged in from.

Invariant: nothing of the test reaches the database that the backup is of, nor WhatsApp; and nothing of it is left. It
counts as passed only if every step was done, or was asked to be left out.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, JobRunning, SettingsError, StandfastError
from standfast.jobs.backup import proof_alarms
from standfast.jobs.backup.aside import on_disk
from standfast.jobs.backup.catalogue import Backup, Catalogue
from standfast.jobs.backup.digest import check_method, differences, take_content
from standfast.jobs.backup.loading import load_into
from standfast.jobs.backup.manifest import Manifest, RestoreTest
from standfast.jobs.backup.meaning import Meaning, examine
from standfast.jobs.backup.scratch import Scratch, scratch_server
from standfast.jobs.backup.sealing import identities
from standfast.jobs.context import JobContext
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.observing import NOBODY
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database

PURPOSE = "restore-test"
COMPARE_TIMEOUT_S = 1_800.0
EXAMINE_TIMEOUT_S = 1_800.0
_SHOWN = 3
_SOURCE_STEP = (
    "The database itself held it so: pair that company anew, or restore it from an older backup; "
    "then make another one."
)


class Login(Protocol):
    """Starts a session of `company` from the auth state in `options` against the simulator, and sees it open. Raises
    the error of what failed. `directory` is for its files, which it leaves to whoever calls."""

    async def __call__(self, options: DatabaseOptions, company: Company, directory: Path) -> None: ...


@dataclass(slots=True)
class _Run:
    began: float = field(default_factory=time.monotonic)
    at: float = field(default_factory=time.time)
    steps: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    companies: int = 0
    said: list[str] = field(default_factory=list)
    present: str = ""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began, self.present = time.monotonic(), name
        try:
            yield
        finally:
            self.steps[name] = round(time.monotonic() - began, 3)

    def outcome(self, manifest: Manifest, ok: bool, message: str) -> RestoreTest:
        rto_s = time.monotonic() - self.began
        rpo_s = max(0.0, self.at - manifest.snapshot_at)
        return RestoreTest(self.at, ok, rto_s, rpo_s, message, self.rows, self.companies, self.steps)


async def restore_test(context: JobContext, backup: Backup, login: Login | None) -> RestoreTest:
    """Restore a backup for a test and record what came of it. Without `login` no session is started: so it was asked.
    Raises what kept the test from being made, told and recorded as a failed one; `JobRunning` where another runs."""
    if backup.error is not None:
        raise backup.error
    manifest = backup.manifest
    assert manifest is not None, "a backup without a manifest has an error"
    await _check_key(context, backup, manifest)
    run, error = _Run(), None
    try:
        test = run.outcome(manifest, True, await _tested(context, backup, manifest, login, run))
    except JobRunning:
        raise
    except StandfastError as caught:
        error = caught
        test = run.outcome(manifest, False, f"{caught.message} (at the step {run.present!r})")
    backup.record.restore_tests.append(test)
    await on_disk(lambda: Catalogue(backup.path.parent).record(backup.name, backup.record))
    if error is None:
        context.alerts.take(proof_alarms.tested(backup.name, test))
        return test
    context.alerts.take(proof_alarms.test_failed(backup.name, test.message, error))
    if isinstance(error, BackupDamaged):
        return test
    raise error


async def _check_key(context: JobContext, backup: Backup, manifest: Manifest) -> None:
    """Where the identity is deliberately kept elsewhere, a test here has not failed: it cannot be made."""
    if manifest.content.encrypted and not await on_disk(lambda: identities(context.settings)):
        context.alerts.take(proof_alarms.test_impossible(backup.name))
        raise SettingsError(
            f"the backup {backup.name} is encrypted, and BACKUP_IDENTITY_FILE is not set on this machine",
            next_step="Run the restore test on the machine that has the identity, or set it here.",
        )


async def _tested(
    context: JobContext, backup: Backup, manifest: Manifest, login: Login | None, run: _Run
) -> str:
    """What there is to say. Raises what is wrong."""
    check_method(manifest.digest_method)
    major = _major(manifest.server_version)
    settings, progress = context.settings, context.progress
    progress.step("starting a throwaway PostgreSQL")
    async with contextlib.AsyncExitStack() as stack:
        with run.step("server"):
            scratch: Scratch = await stack.enter_async_context(
                scratch_server(
                    backup.path.parent,
                    PURPOSE,
                    major,
                    plain_bytes=manifest.content.plain_bytes,
                    bin_dir=settings.pg_bin_dir,
                )
            )
        if scratch.major != major:
            run.said.append(f"PostgreSQL {major} is not installed here, so it went into {scratch.major}")
        with run.step("load"):
            loaded = await load_into(scratch.options, backup, settings, progress)
        progress.step("comparing it with its manifest")
        with run.step("compare"):
            await _compare(loaded.options, manifest, run)
        progress.step("checking creds and key pairs")
        with run.step("keys"):
            meaning = await _examine(loaded.options, manifest)
        run.said.append(f"{meaning.creds:,} creds and {meaning.pre_keys:,} pre-keys checked")
        if login is None:
            run.said.append("without a login, as asked")
        elif not meaning.paired:
            run.said.append("no company in it is paired, so none could log in")
        else:
            company = random.choice(meaning.paired)
            progress.step(f"logging {company} in to the simulator")
            with run.step("login"):
                await login(loaded.options, company, scratch.directory)
            run.said.append(f"{company} logged in")
        progress.step("removing the throwaway PostgreSQL")
        return "; ".join(run.said)


async def _compare(options: DatabaseOptions, manifest: Manifest, run: _Run) -> None:
    async with _reading(options, "restore_test.compare", COMPARE_TIMEOUT_S) as connection:
        found = await take_content(connection)
    run.rows, run.companies = found.rows, len(found.companies)
    wrong = differences(manifest, found)
    if wrong:
        raise BackupDamaged(f"what was restored is not what its manifest says: {'; '.join(wrong)}")


async def _examine(options: DatabaseOptions, manifest: Manifest) -> Meaning:
    async with _reading(options, "restore_test.examine", EXAMINE_TIMEOUT_S) as connection:
        meaning = await examine(connection, manifest)
    if meaning.wrong:
        more = f" and {len(meaning.wrong) - _SHOWN} more" if len(meaning.wrong) > _SHOWN else ""
        # The digests were equal: so it has been in the database, too, when the backup was made.
        raise BackupDamaged("; ".join(meaning.wrong[:_SHOWN]) + more, next_step=_SOURCE_STEP)
    return meaning


@contextlib.asynccontextmanager
async def _reading(options: DatabaseOptions, name: str, timeout_s: float) -> AsyncIterator[BoundedConnection]:
    async with (
        Database(options, NOBODY.queries) as database,
        database.transaction(name, timeout_s) as connection,
    ):
        yield connection


def _major(server_version: str) -> int:
    found = re.match(r"\d+", server_version)
    if found is None:
        raise BackupDamaged(f"its manifest names no version of the server: {server_version[:20]!r}")
    return int(found[0])
