"""`Couriers`: brings each channel its notes, in their order, whatever becomes of the other channels.

Invariant: a note counts as delivered only when its channel took it; until then it is on disk. What waits for too long
is summed up in one digest, never dropped. A channel that is down is asked ever more rarely and holds up nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from standfast.alert import Level
from standfast.alerts.channel import Channel, Note, Undelivered, at_least
from standfast.alerts.folding import fold
from standfast.alerts.store import AlertStore, Waiting
from standfast.vault.clock import Clock

log = structlog.get_logger(__name__)
_BEGIN_ANEW_S = 5.0
_POLL_S = 0.02
ABANDONED_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class CourierOptions:
    """`refused_s`: how often a channel is asked that refuses for good; `fold_after_s`, `fold_above`: so old, or so
    many, notes are summed up; `stop_s`: for how long the end of the service waits for what is on its way."""

    timeout_s: float = 10.0
    retry_base_s: float = 2.0
    retry_cap_s: float = 300.0
    retry_after_cap_s: float = 3_600.0
    refused_s: float = 600.0
    fold_after_s: float = 86_400.0
    fold_above: int = 500
    stop_s: float = 2.0


@dataclass(frozen=True, slots=True)
class ChannelState:
    """As in health's document: what waits, what was delivered since the start, and why the last attempt failed."""

    name: str
    level: Level
    waiting: int
    delivered: int
    delivered_at: float | None
    error: str | None
    next_step: str | None
    refused: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt."""

    channel: str
    seconds: float
    failure: Undelivered | None


class Courier:
    """One channel's. `run()` until cancelled."""

    def __init__(self, channel: Channel, store: AlertStore, clock: Clock, options: CourierOptions) -> None:
        self._channel = channel
        self._store = store
        self._clock = clock
        self._options = options
        self._queue: deque[Waiting] = deque()
        self._number = 0
        self._coming = 0  # not written down yet
        self._changed = asyncio.Event()
        self._failures = 0
        self._failure: Undelivered | None = None
        self._resting = False
        self._delivered = 0
        self._delivered_at: float | None = None

    @property
    def name(self) -> str:
        return self._channel.name

    @property
    def level(self) -> Level:
        return self._channel.level

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do now: all is delivered, or the channel rests after a failure."""
        return self._resting or not (self._queue or self._coming)

    def state(self) -> ChannelState:
        failure = self._failure
        return ChannelState(
            self.name,
            self.level,
            len(self._queue),
            self._delivered,
            self._delivered_at,
            failure.message if failure else None,
            failure.next_step if failure else None,
            failure is not None and failure.permanent,
        )

    def restore(self, waiting: Iterable[Waiting]) -> None:
        """Take up what an earlier run could not deliver."""
        self._queue.extend(sorted(waiting, key=lambda one: one.number))
        self._number = max((one.number for one in self._queue), default=0)

    def add(self, note: Note) -> None:
        """Have the note delivered once it is written down."""
        one = self._waiting(note)
        self._coming += 1
        self._store.keep_waiting(one)
        self._store.when_written(lambda: self._admit(one))

    async def run(self) -> None:
        while True:
            self._changed.clear()
            self._fold()
            if not self._queue:
                await self._changed.wait()
                continue
            one = self._queue[0]
            outcome = await self.attempt(msgspec.json.decode(one.note, type=Note))
            if outcome.failure is None:
                self._queue.remove(one)
                self._store.drop_waiting(one)
            else:
                await self._rest(self._pause_s(outcome.failure))

    async def attempt(self, note: Note) -> Outcome:
        """One delivery, within its deadline; its outcome is the channel's state."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        failure: Undelivered | None = None
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._channel.deliver(note)
        except TimeoutError:
            failure = Undelivered(f"{self.name} did not answer within {self._options.timeout_s:g} s")
        except Undelivered as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a channel is other people's code, and the next note comes all the same
            # Of what nobody foresaw only the class is told: its text may hold an address with a token.
            log.warning(
                "a channel of alerts failed unexpectedly", channel=self.name, error=type(error).__name__
            )
            failure = Undelivered(f"{self.name} failed unexpectedly ({type(error).__name__})")
        self._note_outcome(failure)
        return Outcome(self.name, loop.time() - began, failure)

    def found_unusable(self, failure: Undelivered) -> None:
        """Note what is wrong with the channel's setting, where no attempt has shown anything yet."""
        if self._failure is None and not self._delivered:
            self._note_outcome(failure)

    def wake(self) -> None:
        """Try again now."""
        self._changed.set()

    def _admit(self, one: Waiting) -> None:
        self._coming -= 1
        self._queue.append(one)
        if not self._resting:
            self._changed.set()

    def _waiting(self, note: Note) -> Waiting:
        self._number += 1
        return Waiting(self.name, self._number, msgspec.json.encode(note), self._clock.boottime())

    def _note_outcome(self, failure: Undelivered | None) -> None:
        former, self._failure = self._failure, failure
        if failure is None:
            self._failures = 0
            self._delivered += 1
            self._delivered_at = self._clock.wall()
            if former is not None:
                log.info("a channel of alerts takes them again", channel=self.name)
            return
        self._failures += 1
        if former is None or former.permanent != failure.permanent:
            log.warning(
                "alerts are not delivered" if not failure.permanent else "a channel refuses alerts",
                channel=self.name,
                reason=failure.message,
                next_step=failure.next_step,
            )

    def _pause_s(self, failure: Undelivered) -> float:
        options = self._options
        if failure.permanent:
            return options.refused_s
        if failure.retry_after_s is not None:
            return min(max(0.0, failure.retry_after_s), options.retry_after_cap_s)
        pause_s = options.retry_base_s * 2.0 ** min(self._failures - 1, 20)
        return min(pause_s, options.retry_cap_s) * random.uniform(0.8, 1.0)

    async def _rest(self, pause_s: float) -> None:
        self._resting = True
        self._changed.clear()
        try:
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        except TimeoutError:
            return
        finally:
            self._resting = False

    def _fold(self) -> None:
        """Sum up what is too old or too much, at the place of the oldest."""
        oldest_b = self._clock.boottime() - self._options.fold_after_s
        late = sum(one.queued_b < oldest_b for one in self._queue)
        excess = len(self._queue) - self._options.fold_above
        count = max(late, excess + 1 if excess > 0 else 0)
        if count < 2:
            return
        folded = [self._queue.popleft() for _ in range(count)]
        digest = fold([msgspec.json.decode(one.note, type=Note) for one in folded], self._clock.wall())
        one = Waiting(self.name, folded[0].number, msgspec.json.encode(digest), self._clock.boottime())
        for other in folded[1:]:
            self._store.drop_waiting(other)
        self._store.keep_waiting(one)
        self._queue.appendleft(one)


class Couriers:
    """All channels', as the desk's `Telling`."""

    def __init__(
        self,
        channels: Sequence[Channel],
        store: AlertStore,
        clock: Clock,
        options: CourierOptions | None = None,
    ) -> None:
        self._options = options or CourierOptions()
        self._couriers = {channel.name: Courier(channel, store, clock, self._options) for channel in channels}
        self._store = store
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def channels_for(self, level: Level) -> tuple[str, ...]:
        """See `Telling`."""
        return tuple(name for name, one in self._couriers.items() if at_least(level, one.level))

    def tell(self, note: Note, channels: Iterable[str]) -> None:
        """See `Telling`. A channel that there is no more is passed over."""
        for name in channels:
            if name in self._couriers:
                self._couriers[name].add(note)

    def restore(self, waiting: Iterable[Waiting]) -> None:
        """Take up what an earlier run could not deliver. What waits for a channel that there is no more stays on disk
        for a week, in case it comes back."""
        by_channel: dict[str, list[Waiting]] = {}
        for one in waiting:
            by_channel.setdefault(one.channel, []).append(one)
        for name, ones in by_channel.items():
            if name in self._couriers:
                self._couriers[name].restore(ones)
            else:
                self._give_up(name, ones)

    def _give_up(self, name: str, waiting: list[Waiting]) -> None:
        before_b = self._clock.boottime() - ABANDONED_S
        late = [one for one in waiting if one.queued_b < before_b]
        for one in late:
            self._store.drop_waiting(one)
        log.warning(
            "alerts wait for a channel that is not set up",
            channel=name,
            waiting=len(waiting),
            dropped=len(late),
        )

    def start(self) -> None:
        self._tasks = [asyncio.create_task(_for_ever(one.run)) for one in self._couriers.values()]

    async def stop(self) -> None:
        """Deliver what can be delivered within 2 s; the rest stays on disk."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.stop_s
        # Looked at rather than told of: it happens once, and what ends it is spread over as many tasks as channels.
        while loop.time() < deadline and not self._is_done():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._options.stop_s)

    def _is_done(self) -> bool:
        return all(one.is_done for one in self._couriers.values())

    def found_unusable(self, problems: Mapping[str, Undelivered]) -> None:
        """Note what is wrong with the settings of channels, by name, before the first alert finds out."""
        for name, failure in problems.items():
            self._couriers[name].found_unusable(failure)

    def states(self) -> list[ChannelState]:
        return [one.state() for one in self._couriers.values()]

    async def attempt(self, note: Note, channel: str | None = None) -> list[Outcome]:
        """Deliver the note past everything that waits, over one channel or all, side by side."""
        chosen = [one for name, one in self._couriers.items() if channel in (None, name)]
        outcomes = await asyncio.gather(*(one.attempt(note) for one in chosen))
        for courier, outcome in zip(chosen, outcomes, strict=True):
            if outcome.failure is None:
                courier.wake()
        return list(outcomes)


async def _for_ever(run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception:
            log.exception("the courier of a channel failed; it begins anew")
            await asyncio.sleep(_BEGIN_ANEW_S)
