"""What the change log knows that came after a source.

Invariant: its last entry may be some seconds older than the last write: what it gives counts as rolled back, never as
the last state.
"""

from __future__ import annotations

from standfast.authstate.company import Company
from standfast.jobs.changelog.state import CompanyState, state_at
from standfast.settings import Settings


class LoggedStates:
    """Reads the segments below the backup directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def beyond(self, company: Company, epoch: int, sequence: int) -> CompanyState | None:
        """The company's last logged state; None where that is not behind this point of its history. Raises what the
        change log raises."""
        found = await state_at(self._settings, company)
        if found is None or found.creds is None or found.epoch < epoch or found.sequence <= sequence:
            return None
        return found
