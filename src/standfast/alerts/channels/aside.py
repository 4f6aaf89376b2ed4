"""`Aside`: blocking calls in threads of their own, each with a deadline.

Invariant: a call that hangs holds up neither the loop, nor another channel, nor the end of the process. The threads are
daemons for that, which those of executors are not.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from standfast.alerts.channel import Undelivered

_MOST_HUNG = 3
T = TypeVar("T")


class Aside:
    """For one channel."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads: list[threading.Thread] = []

    async def run(self, call: Callable[[], T], timeout_s: float) -> T:
        """What `call` returns or raises. Raises `Undelivered` where it takes too long; it is then left to itself."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= _MOST_HUNG:
            raise Undelivered(
                f"{len(self._threads)} earlier attempts hang still, so no other is begun",
                next_step="Check the way to the service: its name, the firewall, a proxy.",
            )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def report(error: BaseException | None, result: T | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            error, result = None, None
            try:
                result = call()
            except Exception as raised:  # noqa: BLE001 - it is raised where the call is awaited
                error = raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(report, error, result)

        thread = threading.Thread(target=work, name=f"alerts-{self._name}", daemon=True)
        self._threads.append(thread)
        thread.start()
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            raise Undelivered(f"no answer within {timeout_s:g} s") from None
