"""What a verification asks of a running service about its replica, and the same without a service.

Invariant: it reads; no key crosses the socket, only what was found, counts and digests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from standfast.authstate.company import company_id
from standfast.jobs.verify.sources import Looked, looked_at_replica, replica_state
from standfast.service.link import Link
from standfast.service.params import checked
from standfast.sessions.gateway import OperatorMethod
from standfast.sessions.wire import Connection
from standfast.vault.storage.replica import Replica

_LOOK_TIMEOUT_S = 60.0


class Named(msgspec.Struct):
    """Params that name a company."""

    company: str


class ReplicaHere:
    """See `LocalReplica`: one that this process has open."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def companies(self) -> list[str]:
        return sorted(record.company for record in self._replica.companies())

    async def look(self, company: str) -> Looked | None:
        record = self._replica.record(company_id(company))
        if record is None:
            return None
        state = replica_state(self._replica, record)
        return await asyncio.to_thread(looked_at_replica, record, state)


class VerifyMethods:
    """The methods `verify.…` of role operator."""

    def __init__(self, replica: Replica) -> None:
        self._here = ReplicaHere(replica)

    def methods(self) -> Mapping[str, OperatorMethod]:
        """By name, for `Gateway.serve_operators`."""
        return {"verify.companies": self._companies, "verify.look": self._look}

    async def _companies(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        return {"companies": await self._here.companies()}

    async def _look(self, connection: Connection, params: msgspec.Raw) -> dict[str, Any]:
        found = await self._here.look(checked(Named, params).company)
        return {"looked": None if found is None else msgspec.to_builtins(found)}


class _Companies(msgspec.Struct):
    companies: list[str]


class _Answer(msgspec.Struct):
    looked: Looked | None


class ReplicaThere:
    """See `LocalReplica`: a running service's."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def companies(self) -> list[str]:
        raw = await self._link.request("verify.companies", {}, _LOOK_TIMEOUT_S)
        return msgspec.json.decode(raw, type=_Companies).companies

    async def look(self, company: str) -> Looked | None:
        raw = await self._link.request("verify.look", {"company": company}, _LOOK_TIMEOUT_S)
        return msgspec.json.decode(raw, type=_Answer).looked
