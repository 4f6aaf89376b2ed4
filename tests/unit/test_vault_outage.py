"""From a suspicion to an outage, and back to being online."""

from __future__ import annotations

import asyncio

import pytest

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.vault.outage import OutageClock, State

REFUSED = DatabaseUnavailable("refused", cause="refused")
PASSWORD = DatabaseRejected("password", cause="password")


class Hours:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def boottime(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    def boot_id(self) -> str:
        return "one"


def patient() -> tuple[OutageClock, list[State]]:
    """A clock whose suspicions last, and the states that it tells."""
    clock = OutageClock(suspect_limit_s=60)
    told: list[State] = []
    clock.changed(told.append)
    return clock, told


async def test_it_begins_as_a_suspicion_and_is_online_after_a_success() -> None:
    clock, told = patient()
    assert (clock.state, clock.cause, clock.outage_started) == (State.SUSPECT, None, None)
    clock.succeeded()
    clock.succeeded()
    assert told == [State.ONLINE]


async def test_one_failure_is_a_suspicion_that_a_success_ends() -> None:
    clock, told = patient()
    clock.succeeded()
    for _ in range(3):
        clock.failed(REFUSED)
        assert clock.cause is REFUSED
        clock.succeeded()
    assert told == [State.ONLINE, *[State.SUSPECT, State.ONLINE] * 3]
    assert clock.cause is None


@pytest.mark.parametrize("error", [REFUSED, PASSWORD])
async def test_a_second_failure_of_any_cause_is_an_outage(error: DatabaseUnavailable) -> None:
    clock, told = patient()
    clock.succeeded()
    clock.failed(REFUSED)
    clock.failed(error)
    clock.failed(error)
    assert told == [State.ONLINE, State.SUSPECT, State.OUTAGE]
    assert clock.cause is error


async def test_a_server_that_was_never_there_is_an_outage_too() -> None:
    clock, told = patient()
    clock.failed(REFUSED)
    clock.failed(REFUSED)
    assert told == [State.OUTAGE]


async def test_a_suspicion_that_lasts_is_an_outage() -> None:
    """Also without any further answer, and from the very beginning; one that ends in time is none."""
    for first in (False, True):
        clock = OutageClock(suspect_limit_s=0.05)
        if first:
            clock.succeeded()
            clock.failed(REFUSED)
        assert await clock.wait_for({State.OUTAGE}, 5)
    clock = OutageClock(suspect_limit_s=0.05)
    clock.failed(REFUSED)
    clock.succeeded()
    assert not await clock.wait_for({State.OUTAGE}, 0.15)


async def test_many_failures_noticed_elsewhere_are_one_suspicion() -> None:
    """A hundred calls that broke together do not make an outage; the heartbeat decides."""
    clock, told = patient()
    clock.failed(REFUSED)
    clock.succeeded()
    for _ in range(100):
        clock.suspect(REFUSED)
    clock.failed(REFUSED)
    assert told == [State.ONLINE, State.SUSPECT]
    clock.failed(REFUSED)
    assert told[-1] == State.OUTAGE
    clock.suspect(PASSWORD)
    assert clock.cause is REFUSED


async def test_an_outage_is_recovered_from_only_when_drained() -> None:
    """A relapse amid recovery is the same outage, counted from its first beginning."""
    hours = Hours()
    clock = OutageClock(hours, suspect_limit_s=60)
    told: list[State] = []
    clock.changed(told.append)
    clock.succeeded()
    hours.now_s = 10
    clock.failed(REFUSED)
    hours.now_s = 12
    clock.failed(REFUSED)
    assert (clock.outage_started, clock.since, clock.outage_s()) == (10, 12, 2)
    clock.drained()
    clock.succeeded()
    clock.failed(REFUSED)
    clock.succeeded()
    assert told[2:] == [State.OUTAGE, State.RECOVERING, State.SUSPECT, State.RECOVERING]
    clock.failed(REFUSED)
    clock.failed(REFUSED)
    hours.now_s = 100
    assert clock.outage_s() == 90
    clock.succeeded()
    clock.drained()
    assert (clock.state, clock.outage_started, clock.outage_s()) == (State.ONLINE, None, None)
    hours.now_s = 130
    assert clock.since_s() == 30
    assert told[-3:] == [State.OUTAGE, State.RECOVERING, State.ONLINE]


async def test_waiting_for_a_state() -> None:
    """At once where it holds, as soon as it comes, and False when it does not come in time."""
    clock, _ = patient()
    assert await clock.wait_for({State.SUSPECT, State.ONLINE}, 0)
    assert not await clock.wait_for({State.ONLINE}, 0.02)
    waiting = [asyncio.create_task(clock.wait_for({State.ONLINE})) for _ in range(3)]
    await asyncio.sleep(0)
    clock.failed(REFUSED)
    clock.failed(REFUSED)
    clock.succeeded()
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    clock.drained()
    clock.failed(REFUSED)  # before anybody who waited has run: online it was
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [True, True, True]


async def test_a_closed_clock_declares_nothing_more() -> None:
    clock = OutageClock(suspect_limit_s=0.02)
    clock.close()
    assert not await clock.wait_for({State.OUTAGE}, 0.1)


async def test_refused_deliveries_are_an_outage_whatever_heartbeats_say() -> None:
    """Until one is taken; then it is recovered from as from any other, at the next heartbeat if that failed too."""
    clock, told = patient()
    clock.succeeded()
    clock.suspect(PASSWORD)
    clock.refused(PASSWORD)
    for _ in range(3):
        clock.succeeded()
    assert (clock.state, clock.cause, clock.is_refused) == (State.OUTAGE, PASSWORD, True)
    clock.taken()
    assert (clock.state, clock.cause, clock.is_refused) == (State.RECOVERING, None, False)
    clock.refused(PASSWORD)
    clock.failed(REFUSED)
    clock.taken()
    assert clock.state is State.OUTAGE
    clock.succeeded()
    clock.taken()
    assert told == [State.ONLINE, State.SUSPECT, *[State.OUTAGE, State.RECOVERING] * 2]
