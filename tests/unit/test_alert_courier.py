"""Each channel gets its notes in order, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.alert import Alert, Level
from standfast.alerts.channel import Note, Undelivered
from standfast.alerts.folding import fold
from standfast.errors import NotFound
from standfast.service.alerting import Alerting
from tests.alerting import DAY_S, QUICK, HandClock, HttpChannel, alerting_of
from tests.receiver import Receiver
from tests.support import until

TOO_MANY = b"HTTP/1.1 429 X\r\nRetry-After: 0.3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def trouble(number: int, level: Level = "error") -> Alert:
    return Alert(f"trouble_{number}", level, f"number {number}", lasts=True)


def names(receiver: Receiver) -> list[str]:
    return [note["name"] for note in receiver.taken]


def state(alerting: Alerting, channel: str = "http") -> dict[str, object]:
    (found,) = [one for one in alerting.channels() if one.name == channel]
    return {
        "waiting": found.waiting,
        "delivered": found.delivered,
        "error": found.error,
        "refused": found.refused,
    }


async def test_a_channel_that_hangs_blocks_nobody(tmp_path: Path) -> None:
    """The other one has everything at once, in order; the one that hung gets all of it, in order, when it answers."""
    async with Receiver() as well, Receiver() as ill:
        ill.answers = lambda _note: None
        alerting, _ = alerting_of(tmp_path, HttpChannel(ill.url, "ill"), HttpChannel(well.url, "well"))
        async with alerting.open():
            for number in range(20):
                alerting.take(trouble(number))
            # Behind the other one each would come 0.4 s after the one before.
            await until(lambda: len(well.taken) == 20, 6)
            await until(lambda: state(alerting, "ill")["error"] == "ill did not answer within 0.4 s")
            assert state(alerting, "ill")["waiting"] == 20
            ill.answers = lambda _note: 200
            await until(lambda: len(ill.taken) == 20)
            assert names(ill) == names(well) == [f"trouble_{number}" for number in range(20)]
            await until(lambda: state(alerting, "ill") == state(alerting, "well"))


async def test_a_channel_is_asked_again_when_it_says(tmp_path: Path) -> None:
    """429 with Retry-After: not before, and with the same id."""
    at: list[float] = []
    async with Receiver() as receiver:

        def answer(_note: object) -> int | bytes:
            at.append(time.monotonic())
            return TOO_MANY if len(at) == 1 else 200

        receiver.answers = answer
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url))
        async with alerting.open():
            alerting.take(trouble(1))
            await until(lambda: len(receiver.taken) == 1)
    assert at[1] - at[0] >= 0.29
    assert receiver.requests[0][1] == receiver.requests[1][1]


async def test_what_comes_meanwhile_does_not_hurry_a_failing_channel(tmp_path: Path) -> None:
    """The pause after a failure is kept, however much is reported during the attempt and the pause."""
    async with Receiver() as receiver:
        receiver.delay_s = 0.1
        receiver.answers = lambda _note: 503
        slow = replace(QUICK, retry_base_s=60.0, retry_cap_s=60.0)
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url), options=slow)
        async with alerting.open():
            for number in range(20):
                alerting.take(trouble(number))
                await asyncio.sleep(0.02)
            assert len(receiver.requests) == 1


async def test_a_refusal_is_shown_and_asked_again_slowly(tmp_path: Path) -> None:
    """401: shown with its mend, asked seldom; a test that gets through has all the rest delivered at once."""
    async with Receiver() as receiver:
        receiver.answers = lambda _note: 401
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url), options=replace(QUICK, refused_s=60.0))
        async with alerting.open():
            alerting.take(trouble(1))
            alerting.take(trouble(2))
            await until(lambda: state(alerting)["refused"] is True)
            await asyncio.sleep(0.2)
            assert len(receiver.requests) == 1
            (outcome,) = await alerting.tested()
            assert (outcome["ok"], outcome["error"]["message"]) == (False, "http answered 401")
            assert outcome["error"]["next_step"] == "Give it another token."
            receiver.answers = lambda _note: 200
            (outcome,) = await alerting.tested("http")
            assert outcome["ok"]
            await until(lambda: names(receiver) == ["test", "trouble_1", "trouble_2"])
            with pytest.raises(NotFound, match="no channel 'pager'"):
                await alerting.tested("pager")


async def test_what_waits_for_a_day_is_one_digest(tmp_path: Path) -> None:
    """It names every kind and counts every note; what is younger is told by itself."""
    clock = HandClock()
    async with Receiver() as receiver:
        receiver.answers = lambda _note: 503
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url), clock=clock)
        async with alerting.open():
            for number in range(5):
                alerting.take(trouble(number))
            await until(lambda: state(alerting)["waiting"] == 5)
            clock.later(DAY_S + 1)
            alerting.take(trouble(9))
            await until(lambda: state(alerting)["waiting"] == 2)
            receiver.answers = lambda _note: 200
            await until(lambda: len(receiver.taken) == 2)
    assert names(receiver) == ["undelivered_alerts", "trouble_9"]
    assert receiver.taken[0]["facts"]["names"] == {f"trouble_{number}": 1 for number in range(5)}


async def test_too_many_that_wait_are_one_digest_and_the_newest(tmp_path: Path) -> None:
    """Memory and disk are bounded however long a channel is away, over restarts too."""
    async with Receiver() as receiver:
        receiver.answers = lambda _note: 503
        few = replace(QUICK, fold_above=10)
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url), options=few)
        async with alerting.open():
            for number in range(40):
                alerting.take(trouble(number))
            await until(lambda: state(alerting)["waiting"] == 10)
        receiver.answers = lambda _note: 200
        again, _ = alerting_of(tmp_path, HttpChannel(receiver.url), options=few)
        async with again.open():
            await until(lambda: len(receiver.taken) == 10)
    assert receiver.taken[0]["count"] == 31
    assert names(receiver)[1:] == [f"trouble_{number}" for number in range(31, 40)]


def test_digests_are_summed_up_again() -> None:
    """Nothing is counted twice, nothing is left out."""
    note = Note(
        id="0", kind="raised", name="a", level="error", message="", since=1, at=1, node="n", fingerprint="a|"
    )
    once = fold([note, note], 5)
    twice = fold([once, note], 9)
    assert (twice.facts["names"], twice.count, twice.since, twice.level) == ({"a": 3}, 3, 1, "error")


async def test_the_end_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    """What a service reports last is told, if the channel answers; otherwise the next one tells it."""
    async with Receiver() as receiver:
        alerting, _ = alerting_of(tmp_path, HttpChannel(receiver.url))
        async with alerting.open():
            alerting.take(trouble(1))
        assert names(receiver) == ["trouble_1"]
        receiver.answers = lambda _note: None
        hung, _ = alerting_of(tmp_path, HttpChannel(receiver.url))
        began = time.monotonic()
        async with hung.open():
            hung.take(trouble(2))
        assert time.monotonic() - began < 2
        receiver.answers = lambda _note: 200
        again, _ = alerting_of(tmp_path, HttpChannel(receiver.url))
        async with again.open():
            await until(lambda: names(receiver) == ["trouble_1", "trouble_2"])


class Faulty:
    """A channel with a fault in it."""

    name, level = "faulty", "info"

    async def deliver(self, note: Note) -> None:
        raise ValueError("https://token@example.org")


async def test_a_fault_of_a_channel_is_its_own(tmp_path: Path) -> None:
    """It is shown without its text, which may hold an address with a token."""
    alerting, _ = alerting_of(tmp_path, Faulty())  # type: ignore[arg-type]
    async with alerting.open():
        (outcome,) = await alerting.tested()
        assert outcome["error"]["message"] == "faulty failed unexpectedly (ValueError)"


def test_an_undelivered_note_can_be_tried_again() -> None:
    """The error says when, and whether somebody has to act first."""
    error = Undelivered("no", retry_after_s=3)
    assert (error.code, error.retryable, error.retry_after_s, error.permanent) == (
        "target_failed",
        True,
        3,
        False,
    )
