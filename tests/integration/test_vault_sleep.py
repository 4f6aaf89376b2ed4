"""A machine that slept: what was believed before it is not believed after it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.errors import GraceExpired
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.vault.clock import SystemClock
from tests.integration.vaults import ACME, QUICK, node
from tests.support import Proxy, made_up_creds


class SleepingClock(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.slept_s = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.slept_s

    def wall(self) -> float:
        return time.time() + self.slept_s


async def test_a_connection_right_after_a_long_sleep_asks_postgres_first(
    tmp_path: Path, tcp_options: DatabaseOptions, database: Database
) -> None:
    """The state is still that of before the sleep; meanwhile another node may have taken the company over."""
    await PostgresAuthStore(database).install(ACME, made_up_creds(), {})
    clock = SleepingClock()
    assert tcp_options.host is not None
    assert tcp_options.port is not None
    async with Proxy.before(tcp_options.host, tcp_options.port) as proxy:
        far = replace(tcp_options, port=proxy.port)
        async with node(tmp_path, far, replace(QUICK, grace_s=30.0), clock=clock) as one:
            await one.vault.open(ACME)
            await one.in_state("online")
            await proxy.close()
            clock.slept_s = 31.0
            with pytest.raises(GraceExpired):
                await one.vault.open(ACME)
