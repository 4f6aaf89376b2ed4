"""`LogSource`: a moment of the change log as the source of a restore.

Invariant: what it offers of a company is the state that the log has of that moment; where a segment that may matter is
damaged or missing it raises.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime

from standfast.authstate.company import Company
from standfast.errors import CompanyUnknown, UsageError
from standfast.jobs.changelog.folder import folders
from standfast.jobs.changelog.segment import open_segment
from standfast.jobs.changelog.state import CompanyState, companies_at, state_within
from standfast.jobs.restore.source import Offer, line
from standfast.postgres.pool import Database
from standfast.settings import Settings

PREFIX = "changelog@"
LATEST = "latest"
_JUST_NOW_S = 120.0


class LogSource:
    """See `Source`. `gaps`: companies of which the log knows only the state before a span that the moment lies in, and
    that span; known once the offers were read."""

    def __init__(self, settings: Settings, at: float | None, companies: Iterable[str] = ()) -> None:
        """`at` None: the last states that it has. `companies`: those that are wanted, or none for all."""
        self.name = PREFIX + (LATEST if at is None else written(at))
        self.at = time.time() if at is None else at
        self.identity: str | None = None
        self.nodes: frozenset[str] = frozenset()
        self.gaps: dict[Company, tuple[float, float]] = {}
        self._settings = settings
        self._moment = at
        self._companies = [Company(one) for one in companies]

    @classmethod
    def named(cls, settings: Settings, name: str, companies: Iterable[str] = ()) -> LogSource:
        """The same as the one that had this name."""
        text = name.removeprefix(PREFIX)
        return cls(settings, None if text == LATEST else moment(text), companies)

    async def offers(self) -> dict[Company, Offer]:
        """See `Source.offers`. `CompanyUnknown` where the log has no company at that moment."""
        found = await asyncio.to_thread(self._offers)
        if not found:
            whose = f"of {', '.join(self._companies)} " if self._companies else ""
            raise CompanyUnknown(
                f"the change log has no state {whose}at {self.name.removeprefix(PREFIX)}",
                next_step="See what it spans: 'standfast changelog list'.",
            )
        return found

    def _offers(self) -> dict[Company, Offer]:
        self.identity, living = _database(self._settings), _living(self._settings)
        found = {}
        for company in self._companies or companies_at(self._settings, self._moment):
            state = self._state(company)
            if state is None or state.creds is None:
                continue
            if state.node in living:
                self.nodes |= {state.node}
            if state.gap is not None:
                self.gaps[company] = state.gap
            found[company] = Offer(company, state.creds, state.key_count, state.epoch, state.sequence)
        return found

    async def same_in(self, _database: Database) -> frozenset[str]:
        """See `Source.same_in`: the log has values and no times, of which a digest is made too."""
        return frozenset()

    async def lines(self, companies: frozenset[Company]) -> AsyncGenerator[bytes, None]:
        """See `Source.lines`."""
        for company in sorted(companies):
            yield await asyncio.to_thread(self._lines, company)

    def _lines(self, company: Company) -> bytes:
        state = self._state(company)
        keys = {} if state is None else state.keys
        return b"".join(
            line(company, key_type, key_id, value)
            for key_type, ids in keys.items()
            for key_id, value in ids.items()
        )

    def _state(self, company: Company) -> CompanyState | None:
        return state_within(self._settings, company, self._moment)


def moment(text: str) -> float:
    """Seconds since 1970 of "2026-11-22T10:15:30Z". `UsageError` where it is none, or tells no time zone."""
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{text!r} is no moment",
            next_step="Write it as 2026-11-22T10:15:30Z, or with an offset: …+03:00.",
        ) from None
    if parsed.tzinfo is None:
        raise UsageError(
            f"{text!r} does not say in which time zone",
            next_step=f"Add 'Z' for UTC, or an offset such as +03:00: {text.strip()}Z",
        )
    return float(int(parsed.timestamp()))


def written(at: float) -> str:
    """As `moment` reads it."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _living(settings: Settings) -> set[str]:
    """The nodes that have written just now, and so may be there still."""
    since = time.time() - _JUST_NOW_S
    return {
        folder.node
        for folder in folders(settings.backup_directory)
        if (files := folder.files()) and files[-1].closed_at > since
    }


def _database(settings: Settings) -> str | None:
    """The identity of the database that the newest segments are of."""
    newest = [
        folder.places(files[-1])[-1]
        for folder in folders(settings.backup_directory)
        if (files := folder.files())
    ]
    for place in sorted(newest, key=lambda one: one.closed_at, reverse=True):
        if database := open_segment(place).header.database:
            return database
    return None
