"""`Archivist`: archives, then removes, the auth state of companies that WhatsApp has logged out.

Invariant: nothing is removed before it is archived, and nothing that is being paired anew is touched. What cannot be
done now, because PostgreSQL or this disk is away, is tried again until it is done, over restarts too.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from standfast.alert import Alert, AlertSink
from standfast.authstate.company import Company
from standfast.errors import DatabaseUnavailable, StandfastError
from standfast.service.roster import VaultRoster
from standfast.sessions.events import Event
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import State

log = structlog.get_logger(__name__)
RETRY_S = 5.0


class Archivist:
    """Hears of logouts from the event bus (`take`) and works them off (`run`)."""

    def __init__(self, roster: VaultRoster, pool: SessionPool, alerts: AlertSink) -> None:
        self._roster = roster
        self._pool = pool
        self._alerts = alerts
        self._due: set[Company] = set(roster.dead())
        self._told: set[Company] = set()
        self._changed = asyncio.Event()
        self._changed.set()

    def take(self, event: Event) -> None:
        """Listen to the bus."""
        if event.kind == "state" and event.data.get("state") == State.LOGGED_OUT:
            self._due.add(Company(event.company))
            self.wake()

    def wake(self) -> None:
        """What could not be done may be possible now."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), RETRY_S if self._due else None)
            self._changed.clear()
            for company in sorted(self._due):
                try:
                    await self._archive(company)
                    self._done(company)
                except DatabaseUnavailable as error:
                    log.debug("a dead auth state waits for PostgreSQL", company=company, reason=error.message)
                except StandfastError as error:
                    self._failed(company, error)
                except Exception:
                    log.exception("archiving failed unexpectedly", company=company)

    async def _archive(self, company: Company) -> None:
        session = self._pool.session(company)
        async with session.lock if session is not None else contextlib.nullcontext():
            if session is not None and session.is_active:
                return  # it is being paired anew, which has archived what was there
            if not self._roster.is_dead(company):
                if session is None or session.state is not State.LOGGED_OUT:
                    return
                await self._roster.unlinked(company)  # its note may not have been written yet
            await self._roster.prepare_pairing(company)

    def _done(self, company: Company) -> None:
        self._due.discard(company)
        self._told.discard(company)
        self._alerts.take(_archived(company))

    def _failed(self, company: Company, error: StandfastError) -> None:
        log.warning("a dead auth state was not archived", company=company, error=error.code)
        if company not in self._told:
            self._told.add(company)
            self._alerts.take(_not_archived(company, error))


def _not_archived(company: Company, error: StandfastError) -> Alert:
    return Alert(
        "auth_state_not_archived",
        "error",
        f"the dead auth state of {company} could not be archived, and was not removed: {error.message}",
        {"component": "service", "company_id": company},
        {"next_step": error.next_step},
        lasts=True,
    )


def _archived(company: Company) -> Alert:
    return Alert(
        "auth_state_archived",
        "info",
        f"nothing of the dead auth state of {company} is left to be archived",
        {"component": "service", "company_id": company},
        ends=("auth_state_not_archived",),
        quiet=True,
    )
