"""`Rehearsal`: what every phase works with, and what several of them do alike.

Invariant: the second node is the one that everything from phase 2 on is rehearsed on.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from standfast.drill.comparing import differences
from standfast.drill.correspondence import ALPHA, COMPANIES, CONTACT, Correspondence
from standfast.drill.installation import Installation
from standfast.drill.notebook import Notebook
from standfast.drill.plan import Plan
from standfast.drill.processes import ServiceProcess
from standfast.drill.uptime import Uptime
from standfast.drill.waiting import until
from standfast.errors import DrillFailed
from standfast.service.records import Session

OPEN_TIMEOUT_S = 30.0
NOTICE_TIMEOUT_S = 15.0
RECOVERY_TIMEOUT_S = 60.0
SAME_TIMEOUT_S = 15.0


@dataclass(slots=True)
class Rehearsal:
    """`outage_at`: when the outage that goes on began, on the monotonic clock."""

    plan: Plan
    notebook: Notebook
    parts: Installation
    letters: Correspondence
    uptime: Uptime
    fallbacks_s: list[float]
    recoveries_s: list[float]
    outage_at: float = 0.0
    outage_at_s: float = 0.0

    @property
    def service(self) -> ServiceProcess:
        return self.parts.service("second")

    async def session(self, company: str) -> Session:
        return await self.service.client.session(company)

    async def sessions_open(self, timeout_s: float = OPEN_TIMEOUT_S) -> None:
        """Wait until every company is connected."""

        async def look() -> bool:
            found = {one.company: one.is_open for one in await self.service.client.sessions()}
            return all(found.get(company) for company in COMPANIES)

        await until(look, "every session was open", timeout_s)

    async def begin_outage(self, kind: str) -> None:
        """From now on PostgreSQL is away."""
        await self.parts.outages.begin(kind)
        self.outage_at, self.outage_at_s = time.monotonic(), self.notebook.now()

    async def fall_back(self) -> None:
        """Send at once, and measure from the failure until the message is at the other side."""
        letter = await self.letters.send(ALPHA, CONTACT)
        await self.letters.arrival(letter)
        self.fallbacks_s.append(time.monotonic() - self.outage_at)

    async def noticed(self) -> str:
        """Wait until the service knows of the outage; what it says."""

        async def look() -> str | None:
            vault = (await self.service.client.status()).vault
            return vault["cause"]["message"] if vault["state"] == "outage" and vault["cause"] else None

        said = await until(look, "the outage was noticed", NOTICE_TIMEOUT_S)
        # The service knows PostgreSQL by a service file alone, and cannot say where that leads.
        said = said.partition(" (")[0].partition(" at the default host")[0]
        self.notebook.moment("state", f"noticed: {said}")
        return said

    async def end_outage(self, kind: str) -> None:
        """PostgreSQL is back; measure from then until it has everything that was written meanwhile."""
        self.notebook.doing("PostgreSQL comes back")
        await self.parts.outages.end()
        back = time.monotonic()
        self.notebook.moment("outage", kind, since=self.outage_at_s)
        self.notebook.moment("restored", "PostgreSQL is back")

        async def look() -> bool:
            vault = (await self.service.client.status()).vault
            return bool(vault["state"] == "online" and vault["journal"]["batches"] == 0)

        await until(look, "the journal was empty", RECOVERY_TIMEOUT_S)
        self.recoveries_s.append(time.monotonic() - back)
        self.notebook.moment("saved", "PostgreSQL has everything that was written in the outage")

    async def keys_apart(self) -> tuple[int, int]:
        """How many keys the service has, and how many PostgreSQL has otherwise, once it has had time to catch up."""
        deadline = time.monotonic() + SAME_TIMEOUT_S
        while True:
            keys = apart = 0
            for company in COMPANIES:
                have, differ = await differences(self.service.client, self.parts.server.options, company)
                keys, apart = keys + have, apart + differ
            # A receipt that has just come is on its way to PostgreSQL still.
            if not apart or time.monotonic() > deadline:
                return keys, apart
            await asyncio.sleep(0.2)

    async def rest_until(self, since_outage_s: float) -> None:
        """Sleep until the outage is so old."""
        await asyncio.sleep(max(0.0, self.outage_at + since_outage_s - time.monotonic()))

    def saves_are_whole(self, keys: int, apart: int, what: str) -> None:
        """A row of the acceptance table."""
        if not keys:
            raise DrillFailed("the service has no keys to compare")
        self.notebook.holds(
            what,
            "0 keys differ",
            f"{apart:,} of {keys:,} keys differ",
            ok=apart == 0,
        )
