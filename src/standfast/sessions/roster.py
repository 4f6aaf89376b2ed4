"""Which companies' sessions are wanted, as sessions need it kept.

Invariant: no session depends on its row; the row only decides what a restart starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from standfast.authstate.company import Company
from standfast.errors import StandfastError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose auth state a company has, or had last: `number` as digits, None where it is not known. `is_alive`: WhatsApp
    has not ended it, as far as is known."""

    number: str | None = field(repr=False)
    is_alive: bool


class Roster(Protocol):
    """Remembers over restarts which companies' sessions are wanted, and whose creds are dead."""

    async def wanted(self) -> list[Company]:
        """Companies whose sessions are to be started."""
        ...

    async def want(self, company: Company, wanted: bool) -> None:
        """Remember whether the company's session is wanted."""
        ...

    async def linked(self, company: Company) -> None:
        """The company was paired; its session is wanted from now on."""
        ...

    async def unlinked(self, company: Company) -> None:
        """WhatsApp said that the device was removed; the session is not wanted and the creds are dead."""
        ...

    async def check_known(self, company: Company) -> None:
        """Raises `CompanyUnknown` where the company has no auth state. Changes nothing."""
        ...

    async def identity(self, company: Company) -> Identity | None:
        """Whose the company is, or was; None where it was never paired. `DatabaseUnavailable` where that cannot be
        told: only PostgreSQL knows that there is no other identity."""
        ...

    async def prepare_pairing(
        self,
        company: Company,
        *,
        replaces: bool = False,
        release: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make room for a new identity: archives auth state that was paired, awaits `release`, which ends whoever uses
        it, then removes it. `PairingFailed` where it is alive and `replaces` is not set."""
        ...

    async def forget_unpaired(self, company: Company) -> None:
        """Remove what a pairing that was not completed has left; auth state that was ever paired stays."""
        ...


async def remember(company: Company, note: Coroutine[Any, Any, None]) -> None:
    """Await `note` and go on where it could not be written."""
    try:
        await note
    except StandfastError as error:
        log.warning("the roster was not written", company=company, error=error.code)
