"""PostgreSQL as health sees it: whether it answers, and how far its clock is from this machine's."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from standfast.errors import DatabaseUnavailable
from standfast.health.database import DatabaseWatch, Seen, findings
from standfast.health.thresholds import Thresholds
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from tests.support import Proxy


def _codes(watch: DatabaseWatch) -> list[tuple[str, str]]:
    return [(one.code, one.level) for one in findings(watch.section(), Thresholds())]


async def test_a_clock_that_differs_is_told_and_one_that_was_set_right_is_not(
    database_options: DatabaseOptions,
) -> None:
    """The same clock has no offset; a difference is measured both ways, and forgotten at once when it is mended."""
    shift_s = 0.0
    async with Database(database_options) as database:
        watch = DatabaseWatch(database, embedded=True, wall=lambda: time.time() + shift_s)
        assert watch.section().state == "unknown"
        await watch.look()
        section = watch.section()
        assert (section.state, section.clock_offset_s) == ("online", 0.0)
        assert section.server is not None
        assert section.server.startswith("PostgreSQL 1")
        assert section.latency_ms is not None
        assert 0 < section.latency_ms < 5_000
        for shift_s, expected in ((-40.0, "error"), (5.0, "warning")):
            await watch.look()
            assert watch.section().clock_offset_s == pytest.approx(-shift_s, abs=1)
            assert _codes(watch) == [("clock_offset", expected)]
        shift_s = 0.0
        await watch.look()
        assert _codes(watch) == []


async def test_a_slow_way_leaves_open_what_a_quick_one_tells(database_options: DatabaseOptions) -> None:
    """An offset within half a round trip is none; the quickest of the last looks decides."""
    watch = DatabaseWatch(Database(database_options), embedded=False)
    watch._note(Seen(6.0, 2.9, 3.0))
    assert watch.clock_offset_s() == 0.0
    watch._note(Seen(0.01, 2.5, 0.005))
    watch._note(Seen(6.0, 0.1, 3.0))
    assert watch.clock_offset_s() == 2.5


async def test_a_database_that_is_away_says_why(proxied: DatabaseOptions, proxy: Proxy) -> None:
    """And answers again once it is back; what others know of it comes first."""
    async with Database(replace(proxied, connect_timeout_s=0.5, checkout_timeout_s=0.5)) as database:
        watch = DatabaseWatch(database, embedded=False)
        await proxy.close()
        with pytest.raises(DatabaseUnavailable):
            await watch.look()
        section = watch.section()
        assert (section.state, section.latency_ms) == ("unavailable", None)
        assert section.next_step
        assert _codes(watch) == [("database_unavailable", "warning")]
        known = DatabaseUnavailable("it is known to be away", cause="timeout")
        assert watch.section(known).error == "it is known to be away"
