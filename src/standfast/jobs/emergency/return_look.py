"""What the way back would do: PostgreSQL looked at, and compared with what the node has.

Invariant: nothing is changed by looking, and a PostgreSQL that does not answer in time is one that is still away.
"""

from __future__ import annotations

import asyncio

import msgspec

from standfast.errors import DatabaseRejected, DatabaseUnavailable, EmergencyRefused
from standfast.jobs.context import JobContext
from standfast.jobs.emergency.comparison import Compared, Kept, Wish, compare, needs_content
from standfast.jobs.emergency.return_node import NodeStanding, ReturnNode
from standfast.jobs.restore.present import Target, look_at
from standfast.jobs.restore.steps import StepsFile
from standfast.postgres.pool import Statement

ANSWER_TIMEOUT_S = 4.0
_READY = Statement(
    "emergency.ready", "select pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool"
)
_CONTENTS_AT_ONCE = 4


class Outlook(msgspec.Struct):
    """`identity`: what an empty database is to be known by from now on; `bind`: the identity of another database that
    the node is to belong to; None: things stay as they are. `left_alone`: companies that only PostgreSQL has."""

    database: str
    folders: str
    since: float
    companies: list[Compared]
    identity: str | None = None
    bind: str | None = None
    left_alone: list[str] = []

    @property
    def undecided(self) -> list[Compared]:
        return [one for one in self.companies if one.is_undecided]


async def look(
    context: JobContext, node: ReturnNode, wish: Wish, *, other_database: bool = False
) -> tuple[Outlook, NodeStanding]:
    """As things stand now. `EmergencyRefused` where the node does not stand on files, PostgreSQL is still away, takes
    no writes, or is another database than the one that was left and that was not asked for."""
    StepsFile(context.settings.state_dir).refuse_unfinished()
    await refuse_away(context)
    standing = await node.standing()
    if standing.mode is None:
        raise not_on_files()
    _refuse_unknown(standing, wish)
    target = await look_at(context.database)
    identity, bind = _identities(target, standing, other_database=other_database)
    is_ours = bind is None
    outlook = Outlook(
        context.database.where,
        standing.mode.root,
        standing.mode.since,
        await _compared(node, standing, target, wish, is_ours=is_ours),
        identity,
        bind,
        sorted(target.companies.keys() - {one.company for one in standing.companies}),
    )
    return outlook, standing


def not_on_files() -> EmergencyRefused:
    """There is no way back to go."""
    return EmergencyRefused(
        "this node does not stand on files: there is no way back to go",
        next_step="See 'standfast emergency status'. Folders whose node is lost are brought in with --dir.",
    )


async def _compared(
    node: ReturnNode, standing: NodeStanding, target: Target, wish: Wish, *, is_ours: bool
) -> list[Compared]:
    done = set(standing.mode.done) if standing.mode is not None else set()
    turns = asyncio.Semaphore(_CONTENTS_AT_ONCE)

    async def one(kept: Kept) -> Compared:
        now = target.of(kept.company)
        is_same = False
        if needs_content(kept, now, standing.node, is_ours=is_ours):
            async with turns:
                is_same = await node.is_same(kept.company)
        return compare(
            kept,
            now,
            standing.node,
            wish,
            is_ours=is_ours,
            is_same=is_same,
            is_done=kept.company in done,
        )

    kept = sorted(standing.companies, key=lambda each: each.company)
    return list(await asyncio.gather(*(one(each) for each in kept)))


async def refuse_away(context: JobContext) -> None:
    """Raises `EmergencyRefused` where PostgreSQL does not answer in time, or takes no writes."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            ((is_standby, is_read_only),) = await context.database.fetch(_READY, retry=False)
    except (TimeoutError, DatabaseUnavailable, DatabaseRejected) as error:
        raise _still_away(error) from error
    if is_standby or is_read_only:
        raise EmergencyRefused(
            f"PostgreSQL at {context.database.where} answers and takes no writes: it is a standby, or read-only",
            next_step="Promote it, or name the primary in DATABASE_URL; until then this node stays on files.",
        )


def _still_away(error: BaseException) -> EmergencyRefused:
    why = getattr(error, "message", f"no answer within {ANSWER_TIMEOUT_S:g} s")
    step = getattr(error, "next_step", "Bring PostgreSQL back.")
    return EmergencyRefused(
        f"PostgreSQL is still away, so this node stays on files: {why}",
        next_step=f"{step} Then run this again; sessions go on meanwhile.",
    )


def _refuse_unknown(standing: NodeStanding, wish: Wish) -> None:
    known = sorted(one.company for one in standing.companies)
    unknown = sorted(set(wish.companies) - set(known))
    if unknown:
        raise EmergencyRefused(
            f"this node has no company {unknown[0]!r} on files",
            next_step=f"It has: {', '.join(known[:10])}{' …' if len(known) > 10 else ''}",
        )


def _identities(
    target: Target, standing: NodeStanding, *, other_database: bool
) -> tuple[str | None, str | None]:
    """What an empty database becomes, and what the node's replica is bound to anew."""
    ours = standing.database
    if ours is None or target.identity == ours:
        return None, None
    if target.identity is None or not target.companies:
        return ours, None
    if other_database:
        return None, target.identity
    count = len(target.companies)
    raise EmergencyRefused(
        f"another database answers than the one that this node left; it holds {count:,} "
        f"{'company' if count == 1 else 'companies'}",
        next_step="Correct DATABASE_URL; if this one is meant, with all that it holds: --other-database",
    )
