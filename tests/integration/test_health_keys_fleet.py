"""One node of a fleet counts what the tables hold; what it found is known to all, and over time."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from standfast.errors import ServiceUnavailable
from standfast.health.document import Health
from standfast.health.keys import KeyWatch, last_known
from standfast.health.monitor import Pace
from standfast.postgres import census_table
from standfast.postgres.leases import Leases
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.service.health_offline import Outside
from standfast.settings import Settings
from tests.integration.aged_keys import LOW, ONE, TWO, add, codes, pass_time, run
from tests.integration.services import Running, running, short_directory
from tests.support import until


@pytest.fixture
def watch(database: Database) -> KeyWatch:
    return KeyWatch(database, ONE, "one", LOW)


async def test_one_node_counts_and_tells(database: Database, watch: KeyWatch) -> None:
    """The other shows the same and raises nothing; it takes over when the first is dead, and not before."""
    leases = Leases(database)
    await leases.heartbeat(ONE, "one", 30)
    await leases.heartbeat(TWO, "two", 30)
    other = KeyWatch(database, TWO, "two", LOW)
    await add(database, "session", 4, 40)
    await watch.tick()
    await other.tick()
    assert (watch.is_holder, other.is_holder) == (True, False)
    assert codes(watch) == [("expired_keys", "warning")]
    assert codes(other) == [("expired_keys", "info")]
    shown = other.section()
    assert shown is not None
    assert (shown.expired, shown.node) == (4, "one")
    assert await run(database, "select count(*) from standfast_census") == [(1,)]
    await run(
        database, "update standfast_nodes set alive_until = now() - interval '1 s' where node = $1::uuid", ONE
    )
    await other.tick()
    await watch.tick()
    assert (watch.is_holder, other.is_holder) == (False, True)
    assert codes(watch) == [("expired_keys", "info")]
    assert codes(other) == [("expired_keys", "warning")]


async def test_the_duty_lapses_and_is_given_up(database: Database, watch: KeyWatch) -> None:
    """A node without heartbeats loses it when it does not renew; one that ends hands it over at once."""
    other = KeyWatch(database, TWO, "two", LOW)
    await watch.tick()
    await pass_time(database, 600)
    await other.tick()
    assert not other.is_holder
    await pass_time(database, 100)
    await other.tick()
    await watch.tick()
    assert (watch.is_holder, other.is_holder) == (False, True)
    await other.close()
    await watch.tick()
    assert (watch.is_holder, other.is_holder) == (True, False)


async def test_a_command_without_a_service_shows_what_the_nodes_counted(
    database: Database, tcp_options: DatabaseOptions, watch: KeyWatch, state: Path
) -> None:
    """It counts nothing by itself, and says how old the figures are where they are old."""
    await add(database, "session", 4, 40)
    dsn = SecretStr(make_conninfo(tcp_options.to_conninfo(), options=""))
    settings = Settings(database_url=dsn, state_dir=state, expired_keys_warning=3)

    async def seen() -> Health:
        outside = Outside(settings)
        await outside.look()
        return outside.health(ServiceUnavailable("no service answers"))

    assert (await seen()).keys is None
    await watch.tick()
    health = await seen()
    assert health.keys is not None
    assert (health.keys.keys, health.keys.node) == (4, "one")
    assert ("expired_keys", "warning") in {(one.code, one.level) for one in health.findings}
    await pass_time(database, 1_000)
    assert "keys_unknown" in {one.code for one in (await seen()).findings}
    assert await run(database, "select count(*) from standfast_census") == [(1,)]


async def test_a_service_that_ends_hands_the_duty_over(
    database: Database, tcp_options: DatabaseOptions, state: Path
) -> None:
    """Of two services one raises the alert; when it ends the other does, at its next tick."""
    await add(database, "session", 4, 40)
    pace = Pace(delay_s=0.0, interval_s=0.1, keys_interval_s=0.2)
    with short_directory() as second:
        async with contextlib.AsyncExitStack() as stack:
            first = running(state, tcp_options, pace=pace, node_name="one", expired_keys_warning=3)
            one = await stack.enter_async_context(first)
            await until(lambda: bool(one.alerts("expired_keys")))
            other = running(second, tcp_options, pace=pace, node_name="two", expired_keys_warning=3)
            async with other as two:
                await until(lambda: two.service.picture.health().keys is not None)
                assert ("expired_keys", "info") in found_by(two)
                assert not two.alerts("expired_keys")
                await stack.aclose()
                await until(lambda: bool(two.alerts("expired_keys")))
                assert ("expired_keys", "warning") in found_by(two)


def found_by(service: Running) -> set[tuple[str, str]]:
    return {(finding.code, finding.level) for finding in service.service.picture.health().findings}


async def test_many_nodes_at_once_agree_on_one(database: Database) -> None:
    watches = [KeyWatch(database, str(uuid.UUID(int=n)), f"node {n}", LOW) for n in range(1, 6)]
    await asyncio.gather(*(watch.tick() for watch in watches))
    assert sum(watch.is_holder for watch in watches) == 1
    await asyncio.gather(*(watch.tick() for watch in watches))
    assert len({section.node for watch in watches if (section := watch.section())}) == 1


async def test_growth_is_that_of_a_day(database: Database, watch: KeyWatch) -> None:
    """Unknown until there are rows an hour apart, and known again after a restart."""
    await add(database, "pre-key", 100, 0)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert section.keys_a_day is None
    await pass_time(database, 3_000)
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert section.keys_a_day is None
    await pass_time(database, 4_200)
    await run(database, "delete from standfast_census where taken_at > now() - interval '5000 s'")
    await add(database, "pre-key", 50, 0, after=100)
    await KeyWatch(database, ONE, "one", LOW).tick()
    again = await last_known(database)
    assert again is not None
    assert again.exact
    assert again.keys_a_day == pytest.approx(600, rel=0.01)
    assert again.bytes_a_day is not None


async def test_a_restart_goes_on_from_the_last_count(database: Database, watch: KeyWatch) -> None:
    await add(database, "session", 4, 40)
    await watch.tick()
    again = KeyWatch(database, ONE, "one", LOW)
    await again.tick()
    section = again.section()
    assert section is not None
    assert (section.expired, section.exact) == (4, False)
    assert await run(database, "select count(*) from standfast_census where census is not null") == [(1,)]


async def test_old_rows_go(database: Database, watch: KeyWatch) -> None:
    """Of days past the second a row an hour stays, of weeks past the fifth none, and none from a time to come."""
    await watch.tick()
    await run(
        database,
        """
        insert into standfast_census (taken_at, node, node_name, counted_at, exact, auth_records, keys, expired,
                                      table_bytes, index_bytes)
        select date_trunc('hour', now()) - t * interval '1 minute' + interval '1 second', $1::uuid, 'one', now(), false,
               0, 0, 0, 0, 0
        from unnest(array[60, 70, 80, 4320, 4330, 4340, 4350, 57600, -1440]) t
        """,
        ONE,
    )
    await census_table.prune(database)
    kept = (
        "select count(*) filter (where taken_at > now() - interval '2 days'), count(*) from standfast_census"
    )
    assert await run(database, kept) == [(4, 6)]


async def test_a_clock_that_ran_ahead_hides_nothing(database: Database, watch: KeyWatch) -> None:
    """A row of a time when the server's clock was a day ahead does not stand for the present."""
    await add(database, "session", 4, 30.5)
    await watch.tick()
    await pass_time(database, -86_400)
    await run(database, "delete from standfast_duties")
    await watch.tick()
    section = watch.section()
    assert section is not None
    assert (section.expired, section.exact) == (0, True), "by the clock as it is now"
