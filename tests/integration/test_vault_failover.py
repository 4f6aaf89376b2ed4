"""The vault before several servers, and before connections that lead nowhere."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from standfast.postgres.binaries import embedded_binaries, launch_command, launch_environment
from standfast.postgres.embedded import EmbeddedServer
from standfast.postgres.options import DatabaseOptions
from tests.integration.own_server import OwnServer
from tests.integration.vaults import ACME, Load, in_postgres, node, pair
from tests.support import Proxy, until

NOTICED_S = 6.0
WAITING_S = 0.5


class Cluster:
    """A primary and its streaming standby, by sockets: `options` names both and asks for the one that writes."""

    def __init__(self, directory: Path) -> None:
        self.primary = OwnServer(directory / "primary")
        self.standby = EmbeddedServer(directory / "standby", durable=False)
        self._following: asyncio.Task[object] | None = None
        self.options = DatabaseOptions()

    async def start(self) -> None:
        await self.primary.start()
        hba = self.primary.embedded.data_dir / "pg_hba.conf"
        hba.write_text(hba.read_text() + "local replication all trust\n")
        self.primary.execute("select pg_reload_conf()")
        await asyncio.to_thread(self._copy)
        # A server that only follows is never what its start waits for.
        self._following = asyncio.create_task(self.standby.start())
        here = self.primary.new_database()
        there = replace(self.standby.options, dbname=here.dbname)
        await until(lambda: _answers(there), 15)
        self.options = DatabaseOptions(
            f"host={here.host},{there.host} port={here.port},{there.port} dbname={here.dbname} user={here.user}"
            " target_session_attrs=read-write"
        )

    def _copy(self) -> None:
        self.standby.state_dir.mkdir(mode=0o700)
        source = replace(self.primary.embedded.options, dbname="postgres").to_conninfo()
        command = launch_command(
            embedded_binaries() / "pg_basebackup",
            *("-D", str(self.standby.data_dir), "-d", source, "-R", "-X", "stream", "-c", "fast"),
        )
        subprocess.run(command, env=launch_environment(), check=True, capture_output=True, timeout=30)

    async def leave_behind(self) -> None:
        """The standby hears no more of what the primary confirms."""
        await self._at_standby("alter system set primary_conninfo = ''", "select pg_reload_conf()")
        await until(lambda: not self.primary.query("select 1 from pg_stat_replication"))

    async def promote(self) -> None:
        await self._at_standby("select pg_promote()")

    async def _at_standby(self, *statements: str) -> None:
        there = replace(self.standby.options, dbname="postgres").to_conninfo()
        async with await psycopg.AsyncConnection.connect(there, autocommit=True) as connection:
            for statement in statements:
                await connection.execute(statement)

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self.standby.stop()
        await self.primary.stop()


async def _answers(options: DatabaseOptions) -> bool:
    try:
        async with await psycopg.AsyncConnection.connect(options.to_conninfo()):
            return True
    except psycopg.OperationalError:
        return False


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def test_a_failover_is_bridged(tmp_path: Path, cluster: Cluster) -> None:
    """The primary dies while its standby lags behind; the promoted one is brought up to what was acknowledged."""
    await pair(cluster.options)
    async with node(tmp_path / "node", cluster.options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        async with Load(one.vault) as load:
            await cluster.leave_behind()
            await load.goes_on()
            await cluster.primary.kill()
            await one.in_state("outage", NOTICED_S)
            await load.goes_on()
            await cluster.promote()
            await one.in_state("online")
            await load.goes_on()
        await until(lambda: not one.vault.holdings()[0].pending)
        assert load.slowest_s < WAITING_S
        assert one.alerts.names() == ["outage_began", "diverged", "restored"]
    assert await in_postgres(cluster.options) == {"first": b"0"} | load.written


async def test_a_firewall_that_forgot_the_connections_is_no_outage(
    tmp_path: Path, tcp_options: DatabaseOptions
) -> None:
    """Those there were are dead without a word, new ones work: nobody waits and nobody is alerted."""
    await pair(tcp_options)
    async with (
        Proxy.before("127.0.0.1", tcp_options.port or 0) as proxy,
        node(tmp_path, replace(tcp_options, port=proxy.port)) as one,
    ):
        await one.vault.open(ACME)
        await one.in_state("online")
        async with Load(one.vault) as load:
            proxy.freeze()
            await one.in_state("suspect")
            await one.in_state("online")
            await load.goes_on()
        await until(lambda: not one.vault.holdings()[0].pending)
        assert load.slowest_s < WAITING_S
        assert one.alerts.names() == []
    assert await in_postgres(tcp_options) == {"first": b"0"} | load.written


@pytest.mark.parametrize(
    ("mistake", "causes"), [("sslmode=require", {"tls"}), ("host=db.invalid", {"dns", "timeout"})]
)
async def test_an_address_that_leads_nowhere_is_an_outage(
    tmp_path: Path, tcp_options: DatabaseOptions, mistake: str, causes: set[str]
) -> None:
    """TLS that the server does not have, a name that nobody knows: the company opens from its replica, and the cause
    is told; with the mistake mended PostgreSQL gets what was written meanwhile."""
    await pair(tcp_options)
    async with node(tmp_path, tcp_options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
    async with node(tmp_path, replace(tcp_options, conninfo=mistake)) as one:
        await one.vault.open(ACME)
        await one.in_state("outage", NOTICED_S)
        assert one.cause() in causes
        async with Load(one.vault) as load:
            await load.goes_on()
        assert load.slowest_s < WAITING_S
        assert sorted(one.alerts.names()) == ["cached_credentials", "outage_began"]
    async with node(tmp_path, tcp_options) as one:
        await one.in_state("online")
        await until(lambda: not one.vault.replica.companies()[0].journal_batches)
    assert await in_postgres(tcp_options) == {"first": b"0"} | load.written
