"""Leases: which node writes a company's auth state, as PostgreSQL knows it.

Invariant: a company is leased to at most one living node, and every acquisition has an epoch greater than all that
were given out for the company before. A call that was given up on and is executed late changes no lease.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

from standfast.authstate.company import Company, company_id
from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres.pool import Database, Statement

_HEARTBEAT = Statement(
    "node.heartbeat",
    """
    with former as (select instance from standfast_nodes where node = $1::uuid)
    insert into standfast_nodes as n (node, name, instance, alive_until)
    values ($1::uuid, $2, $3::uuid, clock_timestamp() + $4::float8 * interval '1 second')
    on conflict (node) do update
        set name = excluded.name, instance = excluded.instance, alive_until = excluded.alive_until, seen_at = now(),
            revision = n.revision + (n.instance <> excluded.instance)::int,
            started_at = case when n.instance = excluded.instance then n.started_at else now() end
    returning revision, (select id::text from standfast_identity), (select instance::text from former)
    """,
)
# The companies first and in their order: whoever takes one over, or delivers changes, locks in that order too.
_LEAVE = Statement(
    "node.leave",
    """
    with ours as (select node from standfast_nodes where node = $1::uuid and instance = $2::uuid),
    locked as (select company_id from standfast_writers where node in (select node from ours)
               order by company_id for update),
    freed as (update standfast_writers w set node = null from locked where w.company_id = locked.company_id returning 1)
    update standfast_nodes n set alive_until = now() from ours
    where n.node = ours.node and (select count(*) from freed) >= 0
    """,
)
_ACQUIRE = Statement(
    "lease.acquire",
    "select outcome, epoch, sequence, relation, holder, holder_for_s"
    " from standfast_acquire($1, $2::uuid, $3, $4, $5, $6)",
)
_RELEASE = Statement(
    "lease.release", "update standfast_writers set node = null where company_id = $1 and epoch = $2"
)
_HELD = Statement("lease.held", "select company_id, epoch from standfast_writers where node = $1::uuid")
_ATTEMPTS = 10
_PROCESS = str(uuid.uuid4())

Relation = Literal["fresh", "continued", "superseded", "behind"]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`revision` grows whenever a company was taken from the node, or another process began to speak for it;
    `database` is the database's identity. `shared`: another process speaks for this very node, as after the
    state directory was copied."""

    revision: int
    database: str
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Acquired:
    """`epoch` and `sequence` are PostgreSQL's: after "acquired" ours, else what its row says (0: there is none).

    `relation` is that row, before this call, compared with the epoch that the caller knew. "continued": nobody has
    written or taken over since. "superseded": somebody has. "behind": PostgreSQL has gone back in time.
    `holder_for_s`: how long the holder's lease lasts without another heartbeat.
    """

    outcome: Literal["acquired", "held", "absent", "superseded"]
    epoch: int = 0
    sequence: int = 0
    relation: Relation = "fresh"
    holder: str | None = None
    holder_for_s: float | None = None


class Leases:
    """`instance` names the process that speaks for a node; by default this one."""

    def __init__(self, database: Database, instance: str | None = None) -> None:
        self._database = database
        self._instance = instance or _PROCESS
        self._has_beaten = False

    async def heartbeat(self, node: str, name: str, ttl_s: float) -> Heartbeat:
        """Renew the leases of all the node's companies until `ttl_s` from now, by a write that is durable when this
        returns. One attempt: a failure is raised as it is."""
        rows = await self._database.fetch(_HEARTBEAT, [node, name, self._instance, ttl_s], retry=False)
        revision, database, instance = rows[0]
        if database is None:
            raise DatabaseRejected(
                "the database has lost its identity: table standfast_identity is empty",
                next_step="Restore that table's row from a backup, or restore the whole database.",
                cause="schema",
            )
        # In a database that was set up anew nobody has spoken for the node yet.
        shared = self._has_beaten and instance not in (None, self._instance)
        self._has_beaten = True
        return Heartbeat(revision, database, shared)

    async def leave(self, node: str) -> None:
        """Give up all leases of the node, unless another process speaks for it by now."""
        await self._database.fetch(_LEAVE, [node, self._instance])

    async def acquire(
        self,
        company: Company,
        node: str,
        known_epoch: int,
        *,
        create: bool = False,
        force: bool = False,
        supersede: bool = True,
    ) -> Acquired:
        """Lease the company to `node` under a new epoch. "held" where another living node has it, unless `force`;
        "absent" where it has no creds, unless `create`; "superseded" where another owner took it since, though its
        lease has run out, unless `supersede`. None of these writes anything. A node that holds it already acquires
        it anew. The lease is alive as long as the node's heartbeats are."""
        expected = known_epoch
        for _ in range(_ATTEMPTS):
            params = [company, node, known_epoch, expected, create, force]
            ((outcome, *facts),) = await self._database.fetch(_ACQUIRE, params)
            if outcome != "moved":
                return Acquired(outcome, *facts)
            if not supersede and facts[2] == "superseded":
                return Acquired("superseded", *facts)
            expected = facts[0]
        raise DatabaseUnavailable(
            f"several processes acquire {company} at the same time",
            next_step="Start its session on one node only.",
            cause="conflict",
        )

    async def release(self, company: Company, epoch: int) -> None:
        """Give the lease up; nothing happens where a newer epoch holds it."""
        await self._database.fetch(_RELEASE, [company, epoch])

    async def held(self, node: str) -> dict[Company, int]:
        """The node's companies and their epochs, whether the node is alive or not."""
        return {company_id(company): epoch for company, epoch in await self._database.fetch(_HELD, [node])}
