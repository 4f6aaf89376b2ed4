"""What sessions need of Node hosts.

Invariant: a company's session is asked of the one host that it was given to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from standfast.authstate.company import Company


class Host(Protocol):
    """One Node host."""

    @property
    def is_ready(self) -> bool: ...

    async def request(self, method: str, params: Any, *, timeout_s: float) -> msgspec.Raw: ...


class HostChoice(Protocol):
    """Which host has which company's session."""

    def place(self, company: Company) -> Host | None:
        """The host that is to make the company's socket; None while that one is not there yet. Whoever waits is told
        by `Hearing.ready`."""
        ...

    def of(self, company: Company) -> Host | None:
        """The host that the company was given to; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class SingleHost:
    """One host for every company."""

    host: Host

    def place(self, company: Company) -> Host | None:
        return self.host if self.host.is_ready else None

    def of(self, company: Company) -> Host | None:
        return self.host
