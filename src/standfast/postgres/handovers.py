"""`Handovers`: what two living nodes tell each other while one gives a company's session to the other.

Invariant: a row only says who is to go on; who may is the lease's alone. A session that is free is taken, or taken
back, by one of the two: both remove the row, and one of them finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from standfast.authstate.company import Company, company_id
from standfast.postgres.pool import Database, Statement

Step = Literal["offered", "awaited", "free"]
_STALE = "interval '60 seconds'"
# A giver that died, or ended, after the session was awaited: whoever awaits it goes on once the lease is over.
_IS_FREE = (
    "(state = 'free' or state = 'awaited' and not exists"
    " (select from standfast_nodes n where n.node = from_node and n.alive_until > now()))"
)
_LIVING = Statement(
    "handover.nodes",
    "select node::text, name from standfast_nodes where alive_until > now() and node <> $1::uuid order by name, node",
)
_OFFER = Statement(
    "handover.offer",
    "insert into standfast_handovers as h (company_id, from_node, to_node, state)"
    " values ($1, $2::uuid, $3::uuid, 'offered') on conflict (company_id) do update"
    " set from_node = excluded.from_node, to_node = excluded.to_node, state = 'offered', at = clock_timestamp()"
    f" where h.from_node = excluded.from_node or h.at < clock_timestamp() - {_STALE} returning true",
)
_STEP = Statement(
    "handover.step", "select state from standfast_handovers where company_id = $1 and from_node = $2::uuid"
)
_FREE = Statement(
    "handover.free",
    "update standfast_handovers set state = 'free', at = clock_timestamp()"
    " where company_id = $1 and from_node = $2::uuid and state = 'awaited' returning true",
)
_WITHDRAW = Statement(
    "handover.withdraw",
    "delete from standfast_handovers where company_id = $1 and from_node = $2::uuid returning true",
)
_OFFERED = Statement(
    "handover.offered",
    f"select company_id, case when {_IS_FREE} then 'free' else state end from standfast_handovers"
    f" where to_node = $1::uuid and at > clock_timestamp() - {_STALE} order by at",
)
_AWAIT = Statement(
    "handover.await",
    "update standfast_handovers set state = 'awaited' where to_node = $1::uuid and company_id = any($2)"
    " and state = 'offered'",
)
_TAKE = Statement(
    "handover.take",
    f"delete from standfast_handovers where company_id = $1 and to_node = $2::uuid and {_IS_FREE} returning true",
)
_HOLDER = Statement("handover.holder", "select node::text from standfast_writers where company_id = $1")


class Living(NamedTuple):
    """Another node that renews its leases."""

    node: str
    name: str


class Handovers:
    """The rows as one node sees them. Every call raises as the database's calls do."""

    def __init__(self, database: Database, node: str) -> None:
        self._database = database
        self._node = node

    async def living(self) -> list[Living]:
        """The other nodes that live, by name."""
        return [Living(*row) for row in await self._database.fetch(_LIVING, [self._node])]

    # -- the node that gives

    async def offer(self, company: Company, to: str) -> bool:
        """Say that the company's session is to go to the node `to`; False where another node is giving it away."""
        return bool(await self._database.fetch(_OFFER, [company, self._node, to]))

    async def step(self, company: Company) -> Step | None:
        """How far it is; None where it was taken."""
        rows = await self._database.fetch(_STEP, [company, self._node])
        return rows[0][0] if rows else None

    async def free(self, company: Company) -> bool:
        """The session has ended here, and the lease was given back; False where nobody awaits it."""
        return bool(await self._database.fetch(_FREE, [company, self._node]))

    async def withdraw(self, company: Company) -> bool:
        """Take the offer back; False where it was taken."""
        return bool(await self._database.fetch(_WITHDRAW, [company, self._node]))

    async def holder(self, company: Company) -> str | None:
        """The node that has the company's lease."""
        rows = await self._database.fetch(_HOLDER, [company])
        return rows[0][0] if rows else None

    # -- the node that takes

    async def offered(self) -> dict[Company, Step]:
        """What is to come here, in order."""
        rows = await self._database.fetch(_OFFERED, [self._node])
        return {company_id(company): step for company, step in rows}

    async def expect(self, companies: Sequence[Company]) -> None:
        """Say that these are awaited."""
        await self._database.fetch(_AWAIT, [self._node, list(companies)])

    async def take(self, company: Company) -> bool:
        """Whether the free session is this node's now."""
        return bool(await self._database.fetch(_TAKE, [company, self._node]))
