"""The vault through outages, restarts in them, takeovers and databases that went back in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.errors import CompanyInUse, DatabaseUnavailable, GraceExpired
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database, Statement
from standfast.postgres.store import PostgresAuthStore
from standfast.vault.clock import SystemClock
from standfast.vault.storage import commits
from standfast.vault.vault import Vault
from tests.integration.vaults import ACME, QUICK, node
from tests.support import Proxy, made_up_creds, until


class MovedClock(SystemClock):
    """The machine's clock, some seconds further on; its wall clock can be set apart."""

    def __init__(self, later_s: float = 0.0, wall_s: float = 0.0) -> None:
        super().__init__()
        self._later_s, self._wall_s = later_s, wall_s

    def boottime(self) -> float:
        return super().boottime() + self._later_s

    def wall(self) -> float:
        return super().wall() + self._later_s + self._wall_s


@pytest.fixture
async def paired(database: Database) -> Database:
    await PostgresAuthStore(database).install(ACME, made_up_creds(), {"session": {"0": b"0"}})
    return database


@pytest.fixture
def far(tcp_options: DatabaseOptions, proxy: Proxy) -> DatabaseOptions:
    """The database as it is reached through the proxy."""
    return replace(tcp_options, port=proxy.port)


async def session(database: Database, key_id: str) -> bytes | None:
    snapshot = await PostgresAuthStore(database).snapshot(ACME)
    assert snapshot is not None
    return snapshot.keys.get("session", {}).get(key_id)


@pytest.mark.parametrize("kind", ["refused", "hung"])
async def test_an_outage_is_bridged_and_replayed(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database, kind: str
) -> None:
    """Reads and writes go on while PostgreSQL refuses or hangs; all of it is there soon after it is back."""
    async with node(tmp_path, far) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        if kind == "refused":
            await proxy.close()
        else:
            proxy.flowing.clear()
        for n in range(20):
            async with asyncio.timeout(0.5):
                await one.vault.set_keys(ACME, {"session": {"x": b"%d" % n}, "pre-key": {str(n): b"{}"}})
                assert await one.vault.get_keys(ACME, "session", ["x", "0"]) == {"x": b"%d" % n, "0": b"0"}
        await one.in_state("outage")
        assert await session(paired, "x") is None
        if kind == "refused":
            await proxy.listen()
        else:
            proxy.flowing.set()
        await one.in_state("online")
        assert await session(paired, "x") == b"19"
        assert [alert.name for alert in one.alerts.taken] == ["outage_began", "restored"]
        assert one.alerts.named("restored")[0].facts["batches_replayed"] == 20


async def test_a_restart_in_an_outage_opens_from_the_replica(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """Within the grace period, with what was journaled; and it is all delivered afterwards."""
    async with node(tmp_path, far) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
        await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
    async with node(tmp_path, far) as one:
        async with asyncio.timeout(2):
            assert await one.vault.open(ACME) is not None
        assert await one.vault.get_keys(ACME, "session", ["x"]) == {"x": b"1"}
        (alert,) = one.alerts.named("cached_credentials")
        assert alert.message == "Using cached credentials due to PostgreSQL failure"
        assert alert.tags["company_id"] == "acme"
        await one.vault.set_keys(ACME, {"session": {"y": b"2"}})
        await one.in_state("outage")
        await proxy.listen()
        await one.in_state("online")
    assert await session(paired, "x") == b"1"
    assert await session(paired, "y") == b"2"


@pytest.mark.parametrize(
    ("later_s", "wall_s", "opens"), [(20, 0, True), (20, 5000, True), (31, -5000, False)]
)
async def test_the_grace_period_ends_by_a_clock_that_nobody_sets(
    tmp_path: Path,
    far: DatabaseOptions,
    proxy: Proxy,
    paired: Database,
    later_s: float,
    wall_s: float,
    opens: bool,
) -> None:
    """30 s of grace: what the wall clock is set to meanwhile does not matter."""
    options = replace(QUICK, grace_s=30.0)
    async with node(tmp_path, far, options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
    async with node(tmp_path, far, options, clock=MovedClock(later_s, wall_s)) as one:
        if opens:
            assert await one.vault.open(ACME) is not None
            return
        with pytest.raises(GraceExpired, match="grace period of 30 s") as caught:
            await one.vault.open(ACME)
        assert caught.value.facts["age_s"] == pytest.approx(later_s, abs=3)
    async with node(
        tmp_path, far, replace(options, unlimited_grace=True), clock=MovedClock(later_s, wall_s)
    ) as one:
        assert await one.vault.open(ACME) is not None


async def test_without_a_replica_an_outage_is_said_and_nothing_is_made_up(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """A read that failed is never an absence, even where a pairing was asked for."""
    await proxy.close()
    async with node(tmp_path, far) as one:
        for pair in (False, True):
            with pytest.raises(DatabaseUnavailable, match="no whole replica"):
                await one.vault.open(ACME, pair=pair)


async def test_another_owner_fences_the_first_off(
    tmp_path: Path, far: DatabaseOptions, tcp_options: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """What the first one had not delivered lies in quarantine, is told, and never overwrites the newer owner."""
    lost: list[str] = []
    short = replace(QUICK, lease_ttl_s=2.0)
    async with node(tmp_path / "one", far, short) as one:
        one.vault.keeper.on_fenced = lambda company, _error: lost.append(company)
        await one.vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
        await one.in_state("outage")
        await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
        async with node(tmp_path / "two", tcp_options, replace(QUICK, node_name="two")) as two:

            async def taken_over() -> bool:
                try:
                    await two.vault.open(ACME)
                except CompanyInUse:
                    await asyncio.sleep(0.1)
                    return False
                return True

            await until(taken_over, timeout_s=15)
            await two.vault.set_keys(ACME, {"session": {"x": b"2"}})
            await proxy.listen()
            await until(lambda: bool(lost))
            with pytest.raises(CompanyInUse):
                await one.vault.set_keys(ACME, {"session": {"x": b"3"}})
            with pytest.raises(CompanyInUse):
                await one.vault.get_keys(ACME, "session", ["x"])
            await one.in_state("online")
        (kept,) = one.vault.replica.quarantined()
        assert one.vault.replica.quarantined_change(kept.id).keys == {"session": {"x": b"1"}}
        assert one.alerts.named("fenced")[0].facts["batches"] == 1
    assert await session(paired, "x") == b"2"


async def test_a_database_that_went_back_in_time_is_noticed_and_healed(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database
) -> None:
    """PostgreSQL is restored to an older copy while a node runs: the replica is newer and is brought there."""
    tables = ("whatsapp_auth", "whatsapp_keys", "standfast_writers")
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
        await until(lambda: not one.vault.holdings()[0].pending)
        async with paired.transaction("backup", 5.0) as connection:
            for table in tables:
                await connection.execute(f"create table backup_{table} as table {table}")
        await one.vault.set_keys(ACME, {"session": {"x": b"2", "y": b"2"}})
        await until(lambda: not one.vault.holdings()[0].pending)
        async with paired.transaction("restore", 5.0) as connection:
            for table in tables:
                await connection.execute(f"delete from {table}")
                await connection.execute(f"insert into {table} select * from backup_{table}")
        await one.vault.set_keys(ACME, {"session": {"z": b"3"}})
        await until(lambda: bool(one.alerts.named("diverged")))
        await until(lambda: not one.vault.holdings()[0].pending)
    for key_id, value in (("x", b"2"), ("y", b"2"), ("z", b"3")):
        assert await session(paired, key_id) == value


async def test_what_is_written_while_postgres_is_brought_up_to_date_arrives_too(
    tmp_path: Path, database_options: DatabaseOptions, paired: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that have their number and are not durable yet when the whole state is pushed come behind it."""
    monkeypatch.setattr(commits, "SLOW_S", -1.0)  # each commit in a thread: some are always under way
    back = Statement("test.back", "update standfast_writers set epoch = epoch - 1, sequence = sequence - 3")
    written = {"0": b"0"}

    async def write(vault: Vault, writer: int, ended: asyncio.Event) -> None:
        while not ended.is_set():
            key_id = f"{writer}-{len(written)}"
            await vault.set_keys(ACME, {"session": {key_id: b"1"}})
            written[key_id] = b"1"

    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        for times in range(1, 9):
            ended = asyncio.Event()
            writers = [asyncio.create_task(write(one.vault, n, ended)) for n in range(6)]
            await until(lambda: one.vault.holdings()[0].applied > 3)
            await paired.fetch(back)
            await until(lambda times=times: len(one.alerts.named("diverged")) == times)  # type: ignore[misc]
            ended.set()
            await asyncio.gather(*writers)
            await until(lambda: not one.vault.holdings()[0].pending)
            snapshot = await PostgresAuthStore(paired).snapshot(ACME)
            assert snapshot is not None
            assert snapshot.keys["session"] == written


async def test_another_database_gets_nothing_of_the_replica(
    tmp_path: Path,
    database_options: DatabaseOptions,
    paired: Database,
    other_database_options: DatabaseOptions,
) -> None:
    """A node that is pointed at a database of its own history starts from what that holds."""
    async with node(tmp_path, database_options) as one:
        await one.vault.open(ACME)
        await one.vault.set_keys(ACME, {"session": {"x": b"1"}})
    async with Database(other_database_options) as other:
        async with other.transaction("identity", 5.0) as connection:  # it was cloned, as no real one is
            await connection.execute("update standfast_identity set id = gen_random_uuid()")
        await PostgresAuthStore(other).install(ACME, made_up_creds(b"\x05" * 32), {"session": {"x": b"7"}})
        async with node(tmp_path, other_database_options) as one:
            await one.in_state("online")
            creds = await one.vault.open(ACME)
            assert creds is not None
            assert await one.vault.get_keys(ACME, "session", ["x"]) == {"x": b"7"}
            assert one.alerts.named("foreign_database")
        assert await session(other, "x") == b"7"


async def test_read_only_cache_skips_saves_in_an_outage(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database
) -> None:
    """CACHE_MODE=read-only: reads go on, saves are dropped and told."""
    async with node(tmp_path, far, replace(QUICK, read_only_cache=True)) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        await proxy.close()
        await one.in_state("outage")
        await one.vault.set_keys(ACME, {"session": {"0": b"9"}})
        assert await one.vault.get_keys(ACME, "session", ["0"]) == {"0": b"0"}
        assert one.alerts.named("saves_skipped")


@pytest.mark.parametrize("kind", ["refused", "hung"])
async def test_remote_durability_at_the_onset_of_an_outage(
    tmp_path: Path, far: DatabaseOptions, proxy: Proxy, paired: Database, kind: str
) -> None:
    """A write that waits for PostgreSQL when that goes away is answered once that is suspected; later ones do not
    wait."""
    async with node(tmp_path, far, replace(QUICK, durability="remote")) as one:
        await one.vault.open(ACME)
        await one.in_state("online")
        await one.vault.set_keys(ACME, {"session": {"x": b"0"}})
        assert await session(paired, "x") == b"0"
        if kind == "refused":
            await proxy.close()
        else:
            proxy.flowing.clear()
        began = asyncio.get_running_loop().time()
        for n in range(1, 21):
            await one.vault.set_keys(ACME, {"session": {"x": b"%d" % n}})
        assert one.vault.outage.state != "online"
        assert asyncio.get_running_loop().time() - began < 6
        await one.in_state("outage")
        async with asyncio.timeout(0.5):
            await one.vault.set_keys(ACME, {"session": {"x": b"21"}})
        if kind == "refused":
            await proxy.listen()
        else:
            proxy.flowing.set()
        await one.in_state("online")
        assert await session(paired, "x") == b"21"
        await one.vault.set_keys(ACME, {"session": {"x": b"22"}})
        assert await session(paired, "x") == b"22"
