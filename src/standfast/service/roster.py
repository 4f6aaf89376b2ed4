"""Which companies' sessions are wanted and whose creds are dead: here and in PostgreSQL; and room for a new identity.

Invariant: a wish is durable here before anything follows from it, and no call waits on a PostgreSQL that is away.
PostgreSQL's word counts for what was not changed here. Auth state is removed only after it was exported and only
where it is dead, never was paired, or is to be replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from standfast.authstate.company import Company
from standfast.authstate.creds import parse_creds
from standfast.errors import (
    CompanyUnknown,
    DatabaseUnavailable,
    JournalUnwritable,
    PairingFailed,
    StandfastError,
)
from standfast.postgres import sessions_table
from standfast.postgres.pool import Database
from standfast.postgres.sessions_table import Row
from standfast.postgres.store import PostgresAuthStore, Snapshot
from standfast.service.archive import Archive
from standfast.service.snapshots import current_state
from standfast.sessions.phone import number_of
from standfast.sessions.roster import Identity
from standfast.vault.outage import State
from standfast.vault.storage.wishes import Wish
from standfast.vault.vault import Vault

log = structlog.get_logger(__name__)
T = TypeVar("T")
DECISION_PATIENCE_S = 0.8
KNOWN_PATIENCE_S = 0.2
ASKING_PATIENCE_S = 1.5
_ANSWERING = frozenset({State.ONLINE, State.RECOVERING})
_DECIDED = _ANSWERING | {State.OUTAGE}


class VaultRoster:
    """See `standfast.sessions.pool.Roster`. `was_asked`: PostgreSQL has been read since the service began."""

    def __init__(self, database: Database, vault: Vault, archive: Path) -> None:
        self.was_asked = asyncio.Event()
        self._database = database
        self._vault = vault
        self._store = PostgresAuthStore(database)
        self._archive = Archive(archive)
        self._wishes: dict[Company, Wish] = {wish.company: wish for wish in vault.replica.wishes()}
        self._bringing = asyncio.Lock()

    @property
    def asked(self) -> bool:
        return self.was_asked.is_set()

    async def wanted(self) -> list[Company]:
        # Where nothing is known here a start has nothing to lose by waiting; else it goes on with what was wanted last,
        # and `DatabaseFollower` asks as soon as PostgreSQL answers.
        patience_s = KNOWN_PATIENCE_S if self._wishes else DECISION_PATIENCE_S
        await self._vault.outage.wait_for(_DECIDED, patience_s)
        if self._vault.outage.state in _ANSWERING:
            try:
                await self.bring()
            except DatabaseUnavailable as error:
                self._vault.note_failure(error)
            except StandfastError as error:
                log.warning("the roster could not be read", error=error.code, reason=error.message)
        return sorted(wish.company for wish in self._wishes.values() if wish.wanted)

    async def want(self, company: Company, wanted: bool) -> None:
        send = sessions_table.set_wanted(self._database, company, wanted)
        await self._note(replace(self._wish(company), wanted=wanted, dirty=True), send)

    async def linked(self, company: Company) -> None:
        send = sessions_table.set_linked(self._database, company)
        await self._note(Wish(company, wanted=True, unlinked=False, dirty=True), send)

    async def unlinked(self, company: Company) -> None:
        send = sessions_table.set_unlinked(self._database, company)
        await self._note(Wish(company, wanted=False, unlinked=True, dirty=True), send)

    def is_dead(self, company: Company) -> bool:
        """Whether WhatsApp is known to have ended the company's creds."""
        wish = self._wishes.get(company)
        return wish is not None and wish.unlinked

    def dead(self) -> list[Company]:
        """Companies whose creds WhatsApp is known to have ended."""
        return sorted(wish.company for wish in self._wishes.values() if wish.unlinked)

    def stopped(self) -> list[Company]:
        """Companies that could be connected and that an operator wants to be left alone."""
        wishes = [wish for wish in self._wishes.values() if not (wish.wanted or wish.unlinked)]
        records = ((wish.company, self._vault.replica.record(wish.company)) for wish in wishes)
        return sorted(company for company, record in records if record is not None and record.has_creds)

    async def check_known(self, company: Company) -> None:
        if self._is_away:
            record = self._vault.replica.record(company)
            if record is None or not record.has_creds:
                raise self._needs_database(f"this node does not know {company}")
        elif await self._vault.load_creds(company) is None:
            raise CompanyUnknown(f"company {company!r} has no auth state")

    async def identity(self, company: Company) -> Identity | None:
        snapshot = await self._paired_state(company)
        if snapshot is not None:
            number = number_of(parse_creds(snapshot.creds).me_jid)
            return Identity(number, is_alive=not await self._is_dead_anywhere(company))
        former = await self._archive.latest_number(company)
        return None if former is None else Identity(former, is_alive=False)

    async def prepare_pairing(
        self,
        company: Company,
        *,
        replaces: bool = False,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        snapshot = await self._paired_state(company)
        if snapshot is not None and not (replaces or await self._is_dead_anywhere(company)):
            raise PairingFailed(
                f"company {company!r} is paired already",
                next_step=f"Start it: 'standfast start {company}'; or unlink it first: 'standfast logout {company}'.",
            )
        folder = None if snapshot is None else await self._archive.add(company, snapshot)
        if release is not None:
            await release()
        if folder is not None:
            await self._vault.remove(company)
            log.info("auth state archived and removed", company=company, folder=str(folder))

    async def forget_unpaired(self, company: Company) -> None:
        snapshot = await current_state(self._vault, self._store, company)
        if snapshot is not None and not parse_creds(snapshot.creds).is_registered:
            await self._vault.remove(company)

    async def bring(self) -> None:
        """Tell PostgreSQL what was changed here while it was away, and take what was changed there."""
        if self._vault.held.barred is not None:
            raise self._vault.held.barred  # another database answers: it is neither told nor believed
        async with self._bringing:
            for wish in [wish for wish in self._wishes.values() if wish.dirty]:
                await _in_time(sessions_table.put(self._database, _row(wish)))
                await self._settle(wish)
            rows = await _in_time(sessions_table.list_rows(self._database))
            self.was_asked.set()
            for row in rows:
                await self._take(Wish(row.company, row.wanted, row.unlinked, dirty=False))
            for company in self._wishes.keys() - {row.company for row in rows}:
                await self._missing(self._wishes[company])

    async def _note(self, wish: Wish, send: Coroutine[Any, Any, None]) -> None:
        unwritable: JournalUnwritable | None = None
        try:
            await self._keep(wish)
        except JournalUnwritable as error:
            unwritable = error
        if self._is_away:
            send.close()
            if unwritable is not None:
                raise unwritable
            return
        try:
            await _in_time(send)
        except DatabaseUnavailable as error:
            self._vault.note_failure(error)
        except StandfastError as error:
            log.warning("the roster's row was refused", company=wish.company, error=error.code)
        else:
            await self._settle(wish)

    async def _keep(self, wish: Wish) -> None:
        self._wishes[wish.company] = wish
        await self._vault.replica.put_wish(wish)

    async def _settle(self, wish: Wish) -> None:
        """PostgreSQL knows this wish; a later one stays to be told."""
        if self._wishes.get(wish.company) == wish:
            await self._keep(replace(wish, dirty=False))

    async def _take(self, theirs: Wish) -> None:
        ours = self._wishes.get(theirs.company)
        if ours != theirs and not (ours is not None and ours.dirty):
            await self._keep(theirs)

    async def _missing(self, wish: Wish) -> None:
        """PostgreSQL has lost the row (it was restored from an older copy), or somebody removed it."""
        record = self._vault.replica.record(wish.company)
        if wish.dirty or not (wish.wanted or wish.unlinked):
            return
        if record is not None and record.has_creds:
            await _in_time(sessions_table.put(self._database, _row(wish)))
        else:
            await self._keep(Wish(wish.company, wanted=False, unlinked=False, dirty=False))

    def _wish(self, company: Company) -> Wish:
        return self._wishes.get(company) or Wish(company, wanted=False, unlinked=False, dirty=False)

    @property
    def _is_away(self) -> bool:
        return self._vault.outage.state is State.OUTAGE

    def _needs_database(self, why: str) -> DatabaseUnavailable:
        cause = self._vault.outage.cause
        return DatabaseUnavailable(
            f"PostgreSQL is away, and {why}" + (f" ({cause.message})" if cause else ""),
            next_step=cause.next_step if cause else None,
            cause=str(cause.facts.get("cause", "timeout")) if cause else "timeout",
        )

    async def _paired_state(self, company: Company) -> Snapshot | None:
        """The auth state that a new pairing would replace; None where there is none that was ever paired."""
        if self._is_away:
            raise self._needs_database(
                f"only it can tell that {company} has no other identity: nothing is paired until it is back"
            )
        snapshot = await current_state(self._vault, self._store, company)
        return snapshot if snapshot is not None and parse_creds(snapshot.creds).is_registered else None

    async def _is_dead_anywhere(self, company: Company) -> bool:
        return self.is_dead(company) or await sessions_table.is_unlinked(self._database, company)


def _row(wish: Wish) -> Row:
    return Row(wish.company, wish.wanted, wish.unlinked)


async def _in_time(call: Coroutine[Any, Any, T]) -> T:
    """The answer, or `DatabaseUnavailable` soon: nobody who starts or stops a session waits longer."""
    try:
        async with asyncio.timeout(ASKING_PATIENCE_S):
            return await call
    except TimeoutError:
        raise DatabaseUnavailable(
            f"PostgreSQL did not answer about the wanted sessions within {ASKING_PATIENCE_S:g} s",
            cause="timeout",
        ) from None
