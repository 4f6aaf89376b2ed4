"""Which companies' sessions are wanted, as sessions need it kept.

Invariant: no session depends on its row; the row only decides what a restart starts.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

import structlog

from standfast.authstate.company import Company
from standfast.errors import StandfastError

log = structlog.get_logger(__name__)


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

    async def check_pairing(self, company: Company) -> None:
        """Raises `PairingFailed` where the company is paired and alive. Changes nothing."""
        ...

    async def prepare_pairing(self, company: Company) -> None:
        """Make room for a new identity: archives and removes auth state that is dead. Raises as
        `check_pairing`."""
        ...


async def remember(company: Company, note: Coroutine[Any, Any, None]) -> None:
    """Await `note` and go on where it could not be written."""
    try:
        await note
    except StandfastError as error:
        log.warning("the roster was not written", company=company, code=error.code)
