"""`Takeover`: starts here what a node that died was running.

Invariant: a wanted session is started only when the node that held its company has been silent for longer than its
lease. While that node lives nothing is taken from it, also not in the moment between two of its connections: two
nodes that take a company from each other would evict each other at WhatsApp without end.
"""

from __future__ import annotations

import asyncio

import structlog

from standfast.alert import AlertSink
from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseUnavailable, StandfastError
from standfast.postgres.pool import Database, Statement
from standfast.postgres.sessions_table import list_wanted
from standfast.service import alarms
from standfast.sessions.events import Event
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import State

log = structlog.get_logger(__name__)
INTERVAL_S = 2.0
_LIVING = Statement(
    "nodes.living",
    "select distinct name from standfast_nodes where alive_until > now() and node <> $1::uuid and name = any($2)",
)


class Takeover:
    """Hears from the event bus (`take`) which sessions were refused because another node holds their company, and
    looks at those nodes while any is waited for (`run`)."""

    def __init__(self, database: Database, pool: SessionPool, node: str, alerts: AlertSink) -> None:
        self._database = database
        self._pool = pool
        self._node = node
        self._alerts = alerts
        self._holders: dict[Company, str] = {}
        self._given: dict[Company, str] = {}
        self._waiting = asyncio.Event()

    def take(self, event: Event) -> None:
        """Listen to the bus."""
        if event.kind == "error":
            error = event.data.get("error") or {}
            holder = (error.get("facts") or {}).get("holder")
            if error.get("code") == CompanyInUse.code and holder:
                self._holders[Company(event.company)] = str(holder)
                self._waiting.set()
        elif event.kind == "state" and event.data.get("state") != State.CLOSED:
            self._forget(Company(event.company))

    def expect(self, company: Company, holder: str) -> None:
        """This node gave the company to that one: it goes on here should that one die."""
        self._given[company] = holder
        self._waiting.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._waiting.wait()
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._look()
            except DatabaseUnavailable:
                continue  # an outage is told elsewhere, and while it lasts nobody can know who lives
            except StandfastError as error:
                log.warning("other nodes' leases could not be looked at", error=error.code)
            if not (self._holders or self._given):
                self._waiting.clear()

    async def _look(self) -> None:
        self._forget_unwanted()
        holders = self._holders | self._given
        if not holders:
            return
        names = sorted(set(holders.values()))
        living = {row[0] for row in await self._database.fetch(_LIVING, [self._node, names])}
        dead = {company: holder for company, holder in holders.items() if holder not in living}
        if not dead:
            return
        # Stopped by an operator at the other node, for all that is known here.
        wanted = set(await list_wanted(self._database))
        for company, holder in dead.items():
            self._forget(company)
            if company in wanted:
                await self._start(company, holder)

    def _forget(self, company: Company) -> None:
        self._holders.pop(company, None)
        self._given.pop(company, None)

    async def _start(self, company: Company, holder: str) -> None:
        try:
            await self._pool.start(company)
        except StandfastError as error:
            log.warning("a session was not taken over", company=company, error=error.code)
            return
        self._alerts.take(alarms.taken_over(company, holder))

    def _forget_unwanted(self) -> None:
        for company in list(self._holders):
            session = self._pool.session(company)
            if session is None or not session.wanted or session.state is not State.CLOSED:
                del self._holders[company]
