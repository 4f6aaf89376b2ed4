"""A service whose embedded PostgreSQL dies or does not start."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from standfast.errors import StateDirectoryError
from tests.integration.services import ACME, Running, running
from tests.support import made_up_creds, until


async def mint(now: Running) -> None:
    """A company with creds and a key, in PostgreSQL too."""
    vault = now.service.vault
    await now.in_state("online")
    await vault.open(ACME, pair=True)
    await vault.create_creds(ACME, made_up_creds())
    await vault.set_keys(ACME, {"session": {"a": b"1"}})
    await until(lambda: not any(holding.pending for holding in vault.holdings()))


def damage(state: Path) -> None:
    (state / "postgres" / "PG_VERSION").unlink()


async def test_a_killed_server_is_bridged_and_comes_back(state: Path) -> None:
    """Writes go on while it is away, it is started again and told of, and then it has them."""
    async with running(state, None) as now:
        await mint(now)
        service = now.service
        supervisor = service._foundation.own.supervisor
        assert supervisor is not None
        assert supervisor.server.pid
        os.kill(supervisor.server.pid, signal.SIGKILL)
        await until(lambda: service.vault.outage.state != "online")
        began = time.monotonic()
        await service.vault.set_keys(ACME, {"session": {"b": b"2"}})
        assert time.monotonic() - began < 0.5
        await now.in_state("online")
        await until(lambda: not any(holding.pending for holding in service.vault.holdings()))
        assert supervisor.restarts == 1
    assert "SIGKILL" in now.alerts("embedded_postgres_ended")[0]["message"]
    assert len(now.alerts("embedded_postgres_back")) == 1
    assert len(now.alerts("restored")) == 1


async def test_a_server_that_cannot_start_is_done_without_where_there_is_a_replica(state: Path) -> None:
    """A damaged data directory: the service runs from the replica and says so; where there
    is no replica, the start fails with the reason."""
    async with running(state, None) as now:
        await mint(now)
    damage(state)
    async with running(state, None) as now:
        (alert,) = now.alerts("started_without_database")
        assert "not a PostgreSQL data directory" in alert["message"]
        assert await now.service.vault.open(ACME)
        await now.service.vault.set_keys(ACME, {"session": {"b": b"2"}})
        await now.in_state("outage")
    for file in (state / "vault").iterdir():
        if file.is_file():
            file.unlink()
    with pytest.raises(StateDirectoryError, match="not a PostgreSQL data directory"):
        async with running(state, None):
            pass
