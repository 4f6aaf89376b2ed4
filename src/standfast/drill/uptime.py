"""`Uptime`: whether every session stands, sampled.

Invariant: a session that was connected anew between two samples counts as down for one of them; a service that does
not answer counts as down, but while the drill itself has it killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from standfast.drill.correspondence import COMPANIES
from standfast.errors import StandfastError
from standfast.service.client import Client

_ANSWER_TIMEOUT_S = 2.0


class Uptime:
    """`up` of `samples`."""

    def __init__(self, client: Client, sample_s: float) -> None:
        self._client = client
        self._sample_s = sample_s
        self._generations: dict[str, int] = {}
        self._excused = False
        self.samples = 0
        self.up = 0

    @property
    def percent(self) -> float:
        return 100.0 * self.up / self.samples if self.samples else 0.0

    @contextlib.asynccontextmanager
    async def sampling(self) -> AsyncIterator[None]:
        """Sample until its end."""
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @contextlib.contextmanager
    def excused(self) -> Iterator[None]:
        """What is down now is so because the drill wants it."""
        self._excused = True
        try:
            yield
        finally:
            self._excused = False
            self._generations.clear()

    async def _sample(self) -> None:
        while True:
            if not self._excused:
                stands = await self._stands()
                # It may have been killed while it was asked.
                if not self._excused:
                    self.samples += 1
                    self.up += stands
            await asyncio.sleep(self._sample_s)

    async def _stands(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                sessions = {one.company: one for one in await self._client.sessions()}
        except (StandfastError, TimeoutError):
            return False
        stands = True
        for company in COMPANIES:
            session = sessions.get(company)
            if session is None or not session.is_open:
                stands = False
                continue
            known = self._generations.setdefault(company, session.generation)
            self._generations[company] = session.generation
            stands = stands and known == session.generation
        return stands
