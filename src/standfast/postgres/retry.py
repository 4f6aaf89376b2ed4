"""Retrying what passes by itself: a server that restarts, a name that resolves again.

Invariant: at most three retries, after 100, 200 and 400 ms, and none after a failure that came when
the budget was spent.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

T = TypeVar("T")

RETRIES = 3
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 0.4


async def retried(
    call: Callable[[], Awaitable[T]],
    may_retry: Callable[[Exception], bool],
    *,
    budget_s: float,
    on_retry: Callable[[], None],
) -> T:
    """The result of `call`, or its last failure. A call that ran into a long timeout has used up `budget_s`
    and is not repeated: its caller learns of the outage within seconds."""
    start = time.monotonic()

    def worthwhile(error: Exception) -> bool:
        return time.monotonic() - start < budget_s and may_retry(error)

    try:
        return await call()
    except Exception as error:
        if not worthwhile(error):
            raise
        first = error
    # The loop's first turn stands for the call above: setting stamina up costs 20 µs, too much for each read.
    async for attempt in stamina.retry_context(
        on=worthwhile,
        attempts=RETRIES + 1,
        timeout=None,
        wait_initial=FIRST_WAIT_S,
        wait_max=LONGEST_WAIT_S,
        wait_jitter=0,
        wait_exp_base=2,
    ):
        with attempt:
            if attempt.num == 1:
                raise first
            on_retry()
            return await call()
    raise AssertionError("stamina returns or raises")
