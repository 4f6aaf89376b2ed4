"""One run of a job at a time, in a whole fleet.

Invariant: whoever is inside `sole` is the only one of the fleet by PostgreSQL's clock, or learns within a third of the
duty's time that it may not be: then its job is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from standfast.errors import JobRunning, StandfastError
from standfast.jobs.context import JobContext
from standfast.postgres import duties

log = structlog.get_logger(__name__)
TTL_S = 60.0


@contextlib.asynccontextmanager
async def sole(context: JobContext, job: str, *, ttl_s: float = TTL_S) -> AsyncIterator[None]:
    """Run the body as the fleet's only run of `job`. `JobRunning` where another has begun, `DatabaseUnavailable` where
    PostgreSQL cannot be asked. A process that dies inside is forgotten after `ttl_s`. The body is cancelled, and
    `JobRunning` raised, once the duty could not be renewed for all of its time."""
    duty = f"job:{job}"
    if not await duties.claim(context.database, duty, context.node, ttl_s):
        raise JobRunning(f"{job} runs already, here or on another node")
    body = asyncio.current_task()
    assert body is not None
    lost = asyncio.Event()

    async def keep() -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + ttl_s
        while True:
            await asyncio.sleep(ttl_s / 3)
            begun = loop.time()
            try:
                is_ours = await duties.claim(context.database, duty, context.node, ttl_s)
            except StandfastError as error:
                log.warning("a job's duty could not be renewed", job=job, error=error.code)
                is_ours = begun < until
            else:
                until = begun + ttl_s
            if not is_ours:
                lost.set()
                body.cancel()
                return

    keeper = asyncio.create_task(keep(), name=f"sole-{job}")
    try:
        yield
    except asyncio.CancelledError:
        if not lost.is_set():
            raise
        body.uncancel()
        raise JobRunning(
            f"{job} was ended half-way: PostgreSQL has not confirmed for {ttl_s:g} s that no other node runs it"
        ) from None
    finally:
        keeper.cancel()
        with contextlib.suppress(StandfastError):
            await duties.release(context.database, duty, context.node)
