"""`HeartbeatLoop`: one durable write each second proves that PostgreSQL is there and that this node is alive.

Invariant: what is confirmed is the moment before the request, so that no lease is believed in for longer than
PostgreSQL grants it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog

from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.postgres.leases import Heartbeat, Leases
from standfast.vault.clock import Clock, SystemClock
from standfast.vault.confirmation import Confirmation
from standfast.vault.outage import OutageClock, State

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
LATE_S = 1.2
SECOND_LOOK_S = 0.25
LONGEST_BACKOFF_S = 3.0
_JITTER = 0.3
_STOP_TIMEOUT_S = 2.0


class HeartbeatLoop:
    """`leases` works on a database of its own with deadlines of about a second: neither a busy pool nor a long
    statement must look like an outage. `accept` may refuse an answer by raising (another database, say): then it
    counts as a failure. `on_revision` is told that something was taken from this node since the last heartbeat.
    """

    def __init__(
        self,
        leases: Leases,
        outage: OutageClock,
        confirmation: Confirmation,
        node: str,
        name: str,
        ttl_s: float,
        clock: Clock | None = None,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self.accept: Callable[[Heartbeat], None] = lambda _heartbeat: None
        self.on_revision: Callable[[], None] = lambda: None
        self.last: Heartbeat | None = None
        self.failures = 0
        self._leases = leases
        self._outage = outage
        self._confirmation = confirmation
        self._node = (node, name, ttl_s)
        self._clock = clock or SystemClock()
        self._interval_s = interval_s
        self._backoff_s = SECOND_LOOK_S
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def note_failure(self, error: StandfastError) -> None:
        """A call to PostgreSQL has failed elsewhere: suspect it, and look at once."""
        self._outage.suspect(error)
        self.probe_now()

    def probe_now(self) -> None:
        """Let the next heartbeat not wait for its time."""
        self._wake.set()

    async def run(self) -> None:
        """Until `stop` or cancelled."""
        self._task = asyncio.current_task()
        while True:
            await self._beat()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def stop(self) -> None:
        """End `run`, at once whatever the server does."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_STOP_TIMEOUT_S)

    async def _beat(self) -> None:
        begun = self._clock.boottime()
        # Where several hosts are tried in turn an attempt may take long; by then it is known to be no good sign.
        late = asyncio.get_running_loop().call_later(LATE_S, self._outage.suspect, _late())
        try:
            heartbeat = await self._leases.heartbeat(*self._node)
            self.accept(heartbeat)
        except StandfastError as error:
            self._failed(error)
        except Exception as error:
            log.exception("the heartbeat failed unexpectedly")
            self._failed(StandfastError(f"the heartbeat failed unexpectedly: {type(error).__name__}"))
        else:
            self._succeeded(heartbeat, begun)
        finally:
            late.cancel()

    def _succeeded(self, heartbeat: Heartbeat, begun: float) -> None:
        former, self.last = self.last, heartbeat
        self._confirmation.confirm(begun)
        self._backoff_s = SECOND_LOOK_S
        self._outage.succeeded()
        if former is not None and former.revision != heartbeat.revision:
            self.on_revision()

    def _failed(self, error: StandfastError) -> None:
        self.failures += 1
        self._outage.failed(error)
        self._confirmation.refresh()

    def _pause_s(self) -> float:
        if self._outage.state in (State.ONLINE, State.RECOVERING) or self._outage.is_refused:
            return self._interval_s
        pause_s, self._backoff_s = self._backoff_s, min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        return pause_s * random.uniform(1 - _JITTER, 1)


def _late() -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"PostgreSQL has not answered a heartbeat within {LATE_S:g} s", cause="timeout"
    )
