"""Duties: what one node of a fleet does for all, such as counting what the tables hold.

Invariant: only PostgreSQL's clock decides whose a duty is. It is taken from a node only when that node let it lapse,
or is dead by its heartbeats.
"""

from __future__ import annotations

from standfast.postgres.pool import Database, Statement

_CLAIM = Statement(
    "duty.claim",
    """
    insert into standfast_duties as d (duty, node, until)
    values ($1, $2::uuid, clock_timestamp() + $3::float8 * interval '1 second')
    on conflict (duty) do update
        set node = excluded.node, until = excluded.until,
            since = case when d.node = excluded.node then d.since else now() end
        where d.node = excluded.node or d.until <= clock_timestamp()
           or exists (select from standfast_nodes n where n.node = d.node and n.alive_until <= clock_timestamp())
    returning true
    """,
)
_RELEASE = Statement("duty.release", "delete from standfast_duties where duty = $1 and node = $2::uuid")


async def claim(database: Database, duty: str, node: str, ttl_s: float) -> bool:
    """Whether the duty is the node's for the next `ttl_s`: it was nobody's, or its own and is renewed. Raises like
    every database call; then whoever had the duty has it still."""
    return bool(await database.fetch(_CLAIM, [duty, node, ttl_s]))


async def release(database: Database, duty: str, node: str) -> None:
    """Give the duty up, so that another takes it at once; nothing happens where it is another's."""
    await database.fetch(_RELEASE, [duty, node])
