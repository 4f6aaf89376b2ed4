"""Segments of the change log at remotes: sent while they come, waiting while they cannot, brought back when needed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pyrage
import pytest
from pydantic import SecretStr

from standfast.jobs.changelog.compact import compact
from standfast.jobs.changelog.fetching import fetch, verify_remote
from standfast.jobs.changelog.folder import Folder
from standfast.jobs.changelog.uploads import Uploads
from standfast.jobs.changelog.verify import verify
from standfast.settings import Settings
from tests.integration.vaults import Alerts
from tests.support import until
from tests.unit.test_changelog_segments import BEGAN, COMPANIES, Log

NODE = "node-a"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Six segments, and two folders that are remotes."""
    identity = tmp_path / "identity"
    own = pyrage.x25519.Identity.generate()
    identity.write_text(str(own))
    for name in ("eu", "us"):
        (tmp_path / name).mkdir(mode=0o700)
    return Log(
        tmp_path / "here",
        6,
        backup_recipients=str(own.to_public()),
        backup_identity_file=identity,
        backup_remotes=SecretStr(f"{tmp_path}/eu?name=eu {tmp_path}/us?name=us"),
    )


@contextlib.asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[tuple[Uploads, Alerts]]:
    alerts = Alerts()
    uploads = Uploads(settings, NODE, alerts)
    running = asyncio.create_task(uploads.run())
    try:
        yield uploads, alerts
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def there(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.suffix in (".seg", ".pack"))


async def test_segments_reach_each_remote_that_can_be_reached(log: Log, tmp_path: Path) -> None:
    """One that is away delays no other, is told of once, and gets everything once it is back."""
    shutil.rmtree(tmp_path / "us")
    async with sending(log.settings) as (uploads, alerts):
        await until(lambda: there(tmp_path / "eu") == log.folder.names())
        await until(lambda: bool(alerts.named("change_log_not_sent")))
        log.change(COMPANIES[0], 7, BEGAN + 7, snapshot=False)
        uploads.hurry()
        await until(lambda: there(tmp_path / "eu") == log.folder.names())
        (tmp_path / "us").mkdir(mode=0o700)
        await until(lambda: there(tmp_path / "us") == log.folder.names())
        await until(lambda: bool(alerts.named("change_log_sent")))
        assert len(alerts.named("change_log_not_sent")) == 1
        assert [one["waiting"] for one in uploads.status().values()] == [0, 0]


async def test_a_lost_disk_is_had_back_from_a_remote(log: Log, tmp_path: Path) -> None:
    """With nothing but settings and identity; what the remote has damaged is reported with its range."""
    async with sending(log.settings):
        await until(lambda: there(tmp_path / "us") == log.folder.names())
        await until(lambda: there(tmp_path / "eu") == log.folder.names())
    shutil.rmtree(log.settings.backup_directory)
    fetched = await fetch(log.settings, "eu")
    assert (fetched.fetched, fetched.nodes) == (6, [NODE])
    assert (await verify(log.settings)).problems == []
    log.check()
    assert (await fetch(log.settings, "eu")).fetched == 0
    victim = sorted((tmp_path / "us").rglob("*.seg"))[3]
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    found = await verify_remote(log.settings, "us")
    assert [(one.what, one.first) for one in found.problems] == [("damaged", log.folder.files()[3].first)]
    assert (await verify_remote(log.settings, "eu")).problems == []


async def test_a_remote_follows_packs_and_retention_and_nothing_else(log: Log, tmp_path: Path) -> None:
    """What is only missing here stays there."""
    for number in range(6, 12):
        log.change(COMPANIES[number % 3], number, BEGAN + number, snapshot=False)
    async with sending(log.settings) as (uploads, _):
        await until(lambda: there(tmp_path / "eu") == log.folder.names())
        await compact(log.settings, BEGAN + 5_000)
        (pack,) = log.folder.names()
        uploads.hurry()
        await until(lambda: there(tmp_path / "eu") == [pack])
    shutil.rmtree(log.folder.path)
    Folder(log.folder.path).prepare()
    async with sending(log.settings) as (uploads, _):
        await until(lambda: all(one.is_failing is False for one in uploads._sending))
    assert there(tmp_path / "eu") == [pack]
    await fetch(log.settings, "eu")
    log.check(log.history[-3:])
