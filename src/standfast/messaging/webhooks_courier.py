"""`Courier`: brings one webhook what it is owed: at least once, in order within a chat, side by side over chats.

Invariant: an event counts as delivered only after a 2xx. A target that takes nothing from anybody is asked by one chat
at a time, ever more rarely, whatever waits for it; one chat's trouble holds up no other.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from standfast.errors import StandfastError
from standfast.messaging.deliveries import DeliveryTable, Owed
from standfast.messaging.webhooks_lanes import Lane, Lanes

log = structlog.get_logger(__name__)
T = TypeVar("T")
_DOWN_LANES = 3  # so many chats failing, with no success in between, are the target's trouble
_LEAST_ATTEMPTS = 3
_FLUSH_S = 0.05
_DISK_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class CourierOptions:
    """`at_once`: chats of one webhook that are served side by side; `turn`: deliveries of one before the next."""

    timeout_s: float = 10.0
    retry_base_s: float = 1.0
    retry_cap_s: float = 300.0
    give_up_s: float = 86_400.0
    at_once: int = 16
    turn: int = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event was not taken; `gone` where the receiver wants nothing any more."""

    why: str
    gone: bool = False


Deliver = Callable[[Owed], Awaitable[Failure | None]]


class Courier:
    """`run()` until cancelled. `deliver` makes one attempt; `failing` hears since when everything fails, None once
    something was delivered; `buried` how many were given up; `gone` that the receiver is to be asked no more."""

    def __init__(
        self,
        name: str,
        table: DeliveryTable,
        deliver: Deliver,
        options: CourierOptions,
        *,
        failing: Callable[[float | None], None],
        buried: Callable[[int], None],
        gone: Callable[[], None],
        failing_since: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._table = table
        self._deliver = deliver
        self._options = options
        self._tell_failing, self._tell_buried, self._tell_gone = failing, buried, gone
        self._clock = clock
        self._settled: set[int] = set()
        self._unwritten: set[int] = set()
        self._lanes = Lanes(table, name, self._settled)
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._failing: set[Lane] = set()
        self._probes = 0
        self._next_probe = 0.0
        self._held = False
        self.is_down = False  # the target takes nothing from anybody
        self.failing_since = failing_since
        self.last_error: str | None = None
        self.delivered = 0
        self.paused = False
        self.resumed_at = 0.0

    def wake(self) -> None:
        """Something may have been added."""
        self._lanes.grown()
        self._woken.set()

    async def around(self, change: Callable[[], Awaitable[T]]) -> T:
        """Have `change` add older events, with nothing under way, and begin anew from the oldest."""
        self._held = True
        try:
            await self._ended()
            await self.flush()
            return await change()
        finally:
            self._held = False
            self._renew()

    async def wind_down(self, timeout_s: float) -> None:
        """Begin nothing more, and give what is under way that long: what is cut off comes twice."""
        self._held = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)

    async def run(self) -> None:
        flushing = asyncio.create_task(self._flush_for_ever())
        try:
            while True:
                self._woken.clear()
                try:
                    self._begin()
                    await self._rest()
                except StandfastError as error:
                    log.warning("deliveries cannot be read", webhook=self._name, error=error.code)
                    await asyncio.sleep(_DISK_PAUSE_S)
        finally:
            flushing.cancel()
            for task in self._tasks:
                task.cancel()
            await self._ended()

    async def flush(self) -> None:
        """Write down what was delivered. `JournalUnwritable`."""
        numbers = sorted(self._unwritten)
        if numbers:
            await self._table.acknowledge(self._name, numbers)
            self._unwritten.difference_update(numbers)
            self._settled.difference_update(numbers)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            try:
                await self.flush()
            except StandfastError as error:
                log.warning("deliveries were not noted", webhook=self._name, error=error.code)
                await asyncio.sleep(_DISK_PAUSE_S)

    async def _ended(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self) -> None:
        self._lanes.fill()
        while self._may_begin() and (lane := self._lanes.begin(_now())) is not None:
            task = asyncio.get_running_loop().create_task(self._serve(lane))
            self._tasks.add(task)
            task.add_done_callback(self._served)

    def _may_begin(self) -> bool:
        if self.paused or self._held:
            return False
        if self.is_down:
            return not self._tasks and _now() >= self._next_probe
        return len(self._tasks) < self._options.at_once

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s()):
                await self._woken.wait()
        except TimeoutError:
            return

    def _wait_s(self) -> float | None:
        """Until a chat may have its turn; None where only the end of something under way can give it one."""
        room = 0 if self.is_down else self._options.at_once - 1
        if self.paused or self._held or len(self._tasks) > room:
            return None
        due = _now() if self._lanes.is_ready else self._lanes.next_due()
        if due is None:
            return None
        return max(0.005, max(due, self._next_probe if self.is_down else 0.0) - _now())

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()

    async def _serve(self, lane: Lane) -> None:
        lanes, rest_s = self._lanes, 0.0
        try:
            for _ in range(1 if self.is_down else self._options.turn):
                if not lane.items or self.paused or self._held or lanes is not self._lanes:
                    break
                rest_s = await self._attempt(lanes, lane)
                if rest_s > 0:
                    break
        except StandfastError as error:
            log.warning("a delivery could not be made", webhook=self._name, error=error.code)
            rest_s = _DISK_PAUSE_S
        except Exception:
            log.exception("a delivery failed unexpectedly", webhook=self._name)
            rest_s = self._options.retry_cap_s
        if rest_s > 0:
            lanes.rest(lane, _now() + rest_s)
        else:
            lanes.end(lane)

    async def _attempt(self, lanes: Lanes, lane: Lane) -> float:
        """One attempt at the chat's first; for how many seconds the chat rests."""
        item, was_down = lane.items[0], self.is_down
        failure = await self._deliver(item)
        if failure is None:
            self._settled.add(item.number)
            self._unwritten.add(item.number)
            lanes.done(lane)
            self._succeeded(lanes)
            return 0.0
        return await self._failed(lanes, lane, item, failure, was_down)

    def _succeeded(self, lanes: Lanes) -> None:
        self.delivered += 1
        self._probes = 0
        if self.failing_since is not None:
            self.failing_since = self.last_error = None
            self._tell_failing(None)
        was_down, self.is_down = self.is_down, False
        woken, self._failing = self._failing, set()
        if was_down:
            lanes.wake(woken)

    async def _failed(self, lanes: Lanes, lane: Lane, item: Owed, failure: Failure, was_down: bool) -> float:
        self.last_error = failure.why
        self._failing.add(lane)
        lane.failures += 1
        now = self._clock()
        if self.failing_since is None:
            self.failing_since = now
        self._tell_failing(self.failing_since)
        if failure.gone:
            self._tell_gone()
        elif await self._give_up(lanes, lane, item, failure.why, now):
            return 0.0
        else:
            self._table.failed(self._name, item.number, failure.why)
        self.is_down = self.is_down or len(self._failing) >= _DOWN_LANES
        if self.is_down and (was_down or self._probes == 0):
            self._probes += 1
            self._next_probe = _now() + self._delay_s(self._probes)
        return self._delay_s(lane.failures)

    async def _give_up(self, lanes: Lanes, lane: Lane, item: Owed, why: str, now: float) -> bool:
        """Whether the chat's first was given up after this attempt, and everything else that is as late where nothing
        at all gets through."""
        before = now - self._options.give_up_s
        if (
            self.failing_since is not None
            and max(self.failing_since, self.resumed_at) <= before
            and self.is_down
        ):
            buried = await self._table.bury_queued_before(self._name, before, why)
            if buried:
                self._tell_buried(buried)
                self._renew()
                return True
        if max(item.queued_at, self.resumed_at) > before or lane.failures < _LEAST_ATTEMPTS:
            return False
        await self._table.bury(self._name, item.number, why)
        self._tell_buried(1)
        lanes.done(lane)
        return True

    def _renew(self) -> None:
        """What is in memory may have been given up: begin anew with what is on disk."""
        self._lanes = Lanes(self._table, self._name, self._settled)
        self._failing.clear()
        self._woken.set()

    def _delay_s(self, failures: int) -> float:
        options = self._options
        delay_s = min(options.retry_cap_s, options.retry_base_s * 2.0 ** min(failures - 1, 20))
        return delay_s * random.uniform(0.8, 1.2)


def _now() -> float:
    """For turns and pauses: a clock that nobody sets."""
    return asyncio.get_running_loop().time()
