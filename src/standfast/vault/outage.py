"""`OutageClock`: whether PostgreSQL is there, and since when it is not.

Invariant: one failure of any cause is a suspicion; a second failed heartbeat, or a suspicion that lasts, is an
outage, and so is a PostgreSQL that confirms heartbeats and takes nothing else. An outage ends for good only when what
was written in it has been carried over; one that was decided on, only when that is taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from enum import StrEnum

from standfast.errors import StandfastError
from standfast.vault.clock import Clock, SystemClock

SUSPECT_LIMIT_S = 2.0
_FAILURES = 2


class State(StrEnum):
    ONLINE = "online"
    SUSPECT = "suspect"
    OUTAGE = "outage"
    RECOVERING = "recovering"


class OutageClock:
    """Starts as a suspicion: nothing is known yet. Made within the event loop that it is used in."""

    def __init__(self, clock: Clock | None = None, *, suspect_limit_s: float = SUSPECT_LIMIT_S) -> None:
        self._clock = clock or SystemClock()
        self._suspect_limit_s = suspect_limit_s
        self._callbacks: list[Callable[[State], None]] = []
        self._waiters: dict[asyncio.Future[None], Collection[State]] = {}
        self._limit: asyncio.TimerHandle | None = None
        self._state = State.SUSPECT
        self._since = self._clock.boottime()
        self._outage_started: float | None = None
        self._cause: StandfastError | None = None
        self._refusal: StandfastError | None = None
        self._decision: StandfastError | None = None
        self._answered: bool | None = None
        self._failures = 0
        self._limit_suspicion()

    @property
    def state(self) -> State:
        return self._state

    @property
    def since(self) -> float:
        """The boottime at which the present state began."""
        return self._since

    @property
    def cause(self) -> StandfastError | None:
        """Why PostgreSQL is left alone; else the last failure since it was last there."""
        return self._decision or self._cause

    @property
    def detached(self) -> StandfastError | None:
        """Why PostgreSQL is left alone, where that was decided."""
        return self._decision

    @property
    def answered(self) -> bool | None:
        """While detached: whether PostgreSQL confirmed the last heartbeat; None: it was not asked yet."""
        return self._answered

    @property
    def outage_started(self) -> float | None:
        """The boottime of the suspicion that became the present outage; kept until it is recovered from."""
        return self._outage_started

    @property
    def is_refused(self) -> bool:
        """Whether deliveries fail though heartbeats may succeed."""
        return self._refusal is not None

    def since_s(self) -> float:
        """Seconds in the present state."""
        return self._clock.boottime() - self._since

    def outage_s(self) -> float | None:
        """Seconds since the outage started; None where there is none."""
        return None if self._outage_started is None else self._clock.boottime() - self._outage_started

    def succeeded(self) -> None:
        """PostgreSQL has confirmed a write."""
        if self._decision is not None:
            self._answered, self._cause, self._failures = True, None, 0
            return
        self._cause, self._failures = self._refusal, 0
        if self._refusal is not None:
            return
        if self._state is State.OUTAGE or (self._state is State.SUSPECT and self._outage_started is not None):
            self._enter(State.RECOVERING)
        elif self._state is State.SUSPECT:
            self._enter(State.ONLINE)

    def failed(self, error: StandfastError) -> None:
        """A heartbeat has failed."""
        self._cause = error
        if self._decision is not None:
            self._answered = False
            return
        self._failures += 1
        if self._state in (State.ONLINE, State.RECOVERING):
            self._enter(State.SUSPECT)
        elif self._state is State.SUSPECT and self._failures >= _FAILURES:
            self._enter_outage()

    def suspect(self, error: StandfastError) -> None:
        """Something else than a heartbeat has failed, or a heartbeat takes long: no failure that counts. Many calls
        fail together, and the heartbeat decides."""
        if self._state in (State.ONLINE, State.RECOVERING):
            self._cause = error
            self._enter(State.SUSPECT)

    def refused(self, error: StandfastError) -> None:
        """Deliveries have failed for a while, whatever heartbeats say: an outage until one is `taken`."""
        if self._decision is not None:
            return
        self._refusal = error
        if self._state is not State.OUTAGE:
            self._cause = error
            self._enter_outage()

    def taken(self) -> None:
        """PostgreSQL has taken a delivery."""
        if self._refusal is not None:
            self._refusal = None
            if self._failures == 0:
                self._cause = None
                self._enter(State.RECOVERING)

    def drained(self) -> None:
        """What was written in the outage has been carried over."""
        if self._state is State.RECOVERING:
            self._outage_started = None
            self._enter(State.ONLINE)

    def detach(self, cause: StandfastError) -> None:
        """An outage by decision, whatever PostgreSQL does, until `rejoin`."""
        self._decision, self._refusal, self._answered = cause, None, None
        if self._state is not State.OUTAGE:
            if self._state is not State.SUSPECT and self._outage_started is None:
                self._outage_started = self._clock.boottime()
            self._enter_outage()

    def rejoin(self) -> None:
        """The next heartbeat that succeeds ends the outage."""
        self._decision, self._answered = None, None

    def changed(self, callback: Callable[[State], None]) -> None:
        """Call `callback` with each new state from now on; it must be quick and must not raise."""
        self._callbacks.append(callback)

    async def wait_for(self, states: Collection[State], timeout_s: float | None = None) -> bool:
        """Whether the state was or became one of `states` within `timeout_s`, be it for a moment; None: no limit."""
        if self._state in states:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = states
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            del self._waiters[waiter]
        return True

    def close(self) -> None:
        """No suspicion becomes an outage any more."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _enter(self, state: State) -> None:
        self._state = state
        self._since = self._clock.boottime()
        self._limit_suspicion()
        for waiter, states in self._waiters.items():
            if state in states and not waiter.done():
                waiter.set_result(None)
        for callback in self._callbacks:
            callback(state)

    def _enter_outage(self) -> None:
        if self._outage_started is None:
            self._outage_started = self._since
        self._enter(State.OUTAGE)

    def _limit_suspicion(self) -> None:
        self.close()
        if self._state is State.SUSPECT:
            loop = asyncio.get_running_loop()
            self._limit = loop.call_later(self._suspect_limit_s, self._enter_outage)
