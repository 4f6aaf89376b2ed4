"""`Source`: where the state comes from that a restore puts in place.

Invariant: what a source offers of a company is of one moment, and complete.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from standfast.authstate.company import Company
from standfast.postgres.pool import Database

COLUMNS = ("company_id", "key_type", "key_id", "value", "created_at", "updated_at", "expires_at")
"""Of the lines of `Source.lines`, in this order, separated and escaped as COPY's text format has it."""


@dataclass(frozen=True, slots=True)
class Wished:
    """Whether a session was to be connected, as `standfast_sessions` had it."""

    wanted: bool
    phone: str | None = field(default=None, repr=False)
    unlinked_at: str | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """One company as a source has it. `epoch` and `sequence`: how far its history had come, or 0. `is_current`: the
    source itself knows that nothing was written later."""

    company: Company
    creds: bytes = field(repr=False)
    keys: int
    epoch: int = 0
    sequence: int = 0
    wished: Wished | None = None
    is_current: bool = False


class Source(Protocol):
    """`name` as operators know it; `at`: the moment of its content, seconds since 1970; `identity`: of the database
    that it was taken from, `nodes`: those that lived then, as far as the offers told."""

    name: str
    at: float
    identity: str | None
    nodes: frozenset[str]

    async def offers(self) -> dict[Company, Offer]:
        """Every company that it has."""
        ...

    async def same_in(self, database: Database) -> frozenset[str]:
        """Companies that the database has just so, by digest; none where that cannot be compared."""
        ...

    def lines(self, companies: frozenset[Company]) -> AsyncGenerator[bytes, None]:
        """The keys of these companies, as whole lines in COPY's text format; a chunk holds any number of lines."""
        ...


def line(company: str, key_type: str, key_id: str, value: bytes) -> bytes:
    """A key of which no times are known, as a line."""
    fields = (company.encode(), key_type.encode(), key_id.encode(), value)
    return b"\t".join([*map(_escaped, fields), rb"\N", rb"\N", rb"\N"]) + b"\n"


_ESCAPES = {b"\\": rb"\\", b"\t": rb"\t", b"\n": rb"\n", b"\r": rb"\r"}


def _escaped(value: bytes) -> bytes:
    for plain, escape in _ESCAPES.items():  # the backslash first
        value = value.replace(plain, escape)
    return value
