"""What a drill on the running installation asks of the service: translation between wire and vault.

Invariant: an outage is rehearsed for the connection that asked for it, and ends with that connection: a drill that was
killed leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from standfast.authstate.company import company_id
from standfast.errors import SessionNotOpen
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.pool import SessionPool
from standfast.sessions.session import State
from standfast.sessions.wire import Connection
from standfast.vault.rehearsal import Rehearsal

LONGEST_S = 3_600.0


class Named(msgspec.Struct):
    """Params that name a company."""

    company: str


class Begin(msgspec.Struct):
    """Params of `drill.begin`. `for_s`: after it the outage ends by itself."""

    company: str
    for_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)]


class Rehearsing:
    """The methods `drill.…` of role operator."""

    def __init__(self, rehearsal: Rehearsal, pool: SessionPool) -> None:
        self._rehearsal = rehearsal
        self._pool = pool
        self._began_by: Connection | None = None

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {
            "drill.begin": self._begin,
            "drill.standing": self._standing,
            "drill.end": self._end,
            "drill.compare": self._compare,
        }

    def gone(self, connection: Connection) -> None:
        """Whoever began a rehearsal over the connection has left."""
        if self._began_by is connection:
            self._began_by = None
            self._rehearsal.give_up("who began it has left")

    async def _begin(self, connection: Connection, params: msgspec.Raw) -> None:
        asked = checked(Begin, params)
        company = company_id(asked.company)
        session = self._pool.session(company)
        if session is None or session.state is not State.OPEN:
            raise SessionNotOpen(
                f"the session of {company} is not open at this node",
                next_step=f"Start it here: standfast start {company}",
            )
        former, self._began_by = self._began_by, connection
        try:
            await self._rehearsal.begin(company, asked.for_s)
        except BaseException:
            self._began_by = former
            raise

    async def _standing(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        company = company_id(checked(Named, params).company)
        batches, applied = self._rehearsal.standing(company)
        return {
            "rehearsed": self._rehearsal.company == company,
            "ended": self._rehearsal.ended,
            "batches": batches,
            "applied": applied,
        }

    async def _end(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        self._began_by = None
        carried = await self._rehearsal.end(company_id(checked(Named, params).company))
        return {"batches": carried.batches, "took_s": carried.took_s}

    async def _compare(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        compared = await self._rehearsal.compare(company_id(checked(Named, params).company))
        return {"keys": compared.keys, "different": compared.different}
