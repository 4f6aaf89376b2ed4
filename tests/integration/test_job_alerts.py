"""What a command's job has to tell: through the running service, or, where none runs, by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from standfast.errors import BackupFailed
from standfast.jobs.backup import alarms
from standfast.postgres.options import DatabaseOptions
from standfast.service.job_alerts import told
from standfast.service.offline import local_alerts
from tests.integration.services import running, settings_of
from tests.outlet import Outlet

FULL = BackupFailed("the disk is full")


async def test_a_running_service_is_told(state: Path, database_options: DatabaseOptions) -> None:
    """It goes on there, is ended there by the next good run, and is told once."""
    async with running(state, database_options, schedule="off") as started:
        settings = started.service.settings

        async def fail() -> None:
            async with told(settings, None) as alerts:
                alerts.take(alarms.failed(FULL, None))
                raise FULL

        for _ in range(2):
            with pytest.raises(BackupFailed):
                await fail()
        assert [one.name for one in started.service.alerts.open_alerts()] == ["backup_failed"]
        assert len(started.alerts("backup_failed")) == 1
        async with told(settings, None) as alerts:
            alerts.take(alarms.made("20261122T030000Z", 1, 1_000))
        assert started.service.alerts.open_alerts() == []


async def test_without_a_service_the_channels_are_told(state: Path) -> None:
    """Once, over two commands; the history shows it, and the next good run ends it."""
    async with Outlet() as outlet:
        settings = settings_of(
            state,
            None,
            telegram_bot_token="1:a",
            telegram_chat_id="2",
            telegram_api_url=f"http://{outlet.host}",
        )
        for _ in range(2):
            async with told(settings, None) as alerts:
                alerts.take(alarms.failed(FULL, None))
        assert [one.holds("the disk is full") for one in outlet.requests] == [True]
        assert [one["name"] for one in local_alerts(settings, 60, open_only=True)] == ["backup_failed"]
        async with told(settings, None) as alerts:
            alerts.take(alarms.made("20261122T030000Z", 1, 1_000))
        assert local_alerts(settings, 60, open_only=True) == []
        assert len(outlet.requests) == 2


async def test_a_job_does_not_depend_on_it(state: Path) -> None:
    """Where nobody can be told, the command still ends as it did."""
    settings = settings_of(state / "a file", None)
    (state / "a file").write_text("")
    async with told(settings, None) as alerts:
        alerts.take(alarms.failed(FULL, None))
