"""The contract between those who keep auth state and those who ask for it.

Invariant: `None` (or a missing id) means *confirmed absent*; anything that could not be read raises.
Values are raw JSON bytes as the client sent them; no store parses them on the hot path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from standfast.authstate.company import Company

KeyBatch = Mapping[str, Mapping[str, bytes | None]]
"""One Baileys transaction: {key type: {key id: raw JSON, or None to delete}}."""


class AuthStore(Protocol):
    """Where companies' auth state is kept. Every call has a deadline of its own and raises
    `DatabaseUnavailable` (retry may help), `DatabaseRejected` or `AuthStateCorrupt`."""

    async def open(self, company: Company, *, pair: bool = False) -> bytes | None:
        """Make the company this store's to write, until `release`; its creds as raw JSON. With `pair`, None where
        the company is confirmed absent; without, that raises `CompanyUnknown`. `CompanyInUse` where another
        process writes it."""
        ...

    def release(self, company: Company) -> None:
        """Whoever opened the company is done with it. Returns at once; writes under way go on."""
        ...

    async def load_creds(self, company: Company) -> bytes | None:
        """The creds document as raw JSON, or None where the company is confirmed absent."""
        ...

    async def create_creds(self, company: Company, creds: bytes) -> None:
        """Store the first creds of an absent company. `CompanyInUse` if it has creds already."""
        ...

    async def save_creds(self, company: Company, creds: bytes) -> None:
        """Replace the creds of a company that exists. `CompanyUnknown` if it does not;
        `CompanyInUse` if the identity (its public identity key) differs from the stored one."""
        ...

    async def get_keys(self, company: Company, key_type: str, ids: Sequence[str]) -> dict[str, bytes]:
        """The values of those ids that exist."""
        ...

    async def set_keys(self, company: Company, batch: KeyBatch) -> None:
        """Apply one batch wholly or not at all; batches of one company are applied in call order."""
        ...

    async def clear_keys(self, company: Company) -> int:
        """Delete every key of the company (creds stay); how many there were."""
        ...

    async def remove(self, company: Company) -> bool:
        """Delete creds and keys in one transaction; whether there was anything."""
        ...
