"""A service that stands on files: over restarts, with PostgreSQL away or there, until it is told otherwise."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from standfast.errors import EmergencyRefused, StateDirectoryError
from standfast.jobs.emergency.mode import FORMAT, Mode, ModeFile, Placed
from standfast.jobs.progress import Silent
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.store import PostgresAuthStore
from standfast.service.restoring import restoring_context
from tests.integration.services import ACME, running, settings_of
from tests.integration.test_service_outage import has_key
from tests.integration.vaults import Alerts
from tests.support import Proxy, made_up_creds, until


def mode_of(state: Path) -> Mode:
    root = state / "emergency"
    return Mode(FORMAT, "e1", "files", time.time(), str(root), {ACME: Placed("replica", 1, 1, ACME)})


async def test_the_mode_is_remembered_and_ends_when_it_is_told_to(
    state: Path, proxied: DatabaseOptions, proxy: Proxy, store: PostgresAuthStore
) -> None:
    """A node that went on files starts on files, without PostgreSQL and with it, and brings everything there when it
    leaves them."""
    await store.install(ACME, made_up_creds(), {"session": {"a": b"1"}})
    async with running(state, proxied) as now:
        await now.in_state("online")
        assert await now.service.vault.open(ACME)
        await now.service.files.enter(mode_of(state))
        await now.service.vault.set_keys(ACME, {"session": {"b": b"2"}})
        (alert,) = now.alerts("on_files")
        assert alert["level"] == "warning"
    await proxy.close()
    async with running(state, proxied) as now:
        assert await now.service.vault.open(ACME)
        await now.service.vault.set_keys(ACME, {"session": {"c": b"3"}})
        assert [
            one for name in ("outage_began", "started_without_database") for one in now.alerts(name)
        ] == []
    await proxy.listen()
    async with running(state, proxied) as now:
        await until(lambda: now.service.vault.outage.answered is True)
        status = await now.service.status()
        assert (status["files"]["stage"], status["files"]["answered"]) == ("files", True)
        assert [one.code for one in now.service.picture.health().findings if one.section == "vault"] == [
            "on_files"
        ]
        assert not await has_key(store, "b")
        await now.service.files.leave()
        await now.in_state("online")
        assert await has_key(store, "b")
        assert await has_key(store, "c")
        assert now.service.files.status() is None
        assert now.alerts("off_files")
    assert ModeFile(state).read() is None


async def test_a_mode_that_cannot_be_kept_changes_nothing(
    state: Path, proxied: DatabaseOptions, store: PostgresAuthStore
) -> None:
    """A switch that is not durable is none."""
    await store.install(ACME, made_up_creds(), {})
    async with running(state, proxied) as now:
        await now.in_state("online")
        (state / "emergency.json").mkdir()
        with pytest.raises(StateDirectoryError):
            await now.service.files.enter(mode_of(state))
        assert now.service.vault.detached is None
        assert now.service.files.status() is None
        (state / "emergency.json").rmdir()


async def test_a_restore_is_refused_meanwhile(state: Path, database_options: DatabaseOptions) -> None:
    """It would write what this node's own state is to replace."""
    ModeFile(state).write(mode_of(state))
    with pytest.raises(EmergencyRefused, match="stands on files"):
        async with restoring_context(settings_of(state, database_options), Silent(), Alerts(), None):
            pass
