"""What a service manager hears of a real service, and when its watchdog would end it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from rich.console import Console

from standfast.cli.up import Mode, up
from standfast.postgres.options import DatabaseOptions
from standfast.service.notify import Notifier
from standfast.service.supervision import Supervision, SupervisionOptions
from tests.integration.services import running, settings_of
from tests.manager import Manager, manager_at
from tests.support import Proxy, until

QUICK = SupervisionOptions(interval_s=0.05)
WATCHDOG_S = 0.4


async def is_fed_on(manager: Manager) -> None:
    """The watchdog is fed again from now on, and again."""
    seen = manager.fed()
    await until(lambda: manager.fed() >= seen + 2, 5.0)


async def test_up_tells_start_and_end(
    state: Path, proxied: DatabaseOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`standfast up` asks for time to start, says READY once its gateway is there, and STOPPING at its end."""
    with manager_at(state / "n") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        settings = settings_of(state / "s", proxied)
        running_up = asyncio.create_task(up(settings, mode=Mode.GATEWAY, company="main", console=Console()))
        await until(lambda: "READY=1" in manager.told)
        assert (state / "s/gateway.sock").exists()
        assert manager.told[:2] == ["STATUS=starting", "EXTEND_TIMEOUT_USEC=30000000"]
        await until(lambda: manager.status() == "STATUS=0 companies served; PostgreSQL online")
        running_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running_up
        assert "READY=1" not in manager.told[manager.told.index("STOPPING=1") :]


async def test_the_watchdog_is_fed_through_an_outage_and_not_without_a_gateway(
    state: Path, proxied: DatabaseOptions, proxy: Proxy
) -> None:
    """PostgreSQL away never lets the watchdog end the service; a gateway that nobody can reach does."""
    async with running(state, proxied) as now:
        with manager_at(state / "n") as manager:
            supervision = Supervision(Notifier(manager.address, WATCHDOG_S), QUICK)
            async with supervision.running():
                with supervision.serving(now.service):
                    await is_fed_on(manager)
                    await proxy.close()
                    await now.in_state("outage")
                    await until(lambda: "PostgreSQL outage" in manager.status())
                    await is_fed_on(manager)
                    now.service.gateway.path.rename(state / "elsewhere.sock")
                    fed = manager.fed()
                    await asyncio.sleep(2 * WATCHDOG_S)  # what is not to come can only be waited for
                    assert manager.fed() <= fed + 1  # one may have been on its way
                    (state / "elsewhere.sock").rename(now.service.gateway.path)
                    await is_fed_on(manager)
