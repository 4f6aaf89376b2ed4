"""Where PostgreSQL and the replica differ: one takes the other's state, as was decided.

Invariant: nobody has the company open meanwhile, and what is replaced is kept in the archive before it is; a company
that was withheld is let go again, whatever happens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from standfast.authstate.company import Company, company_id
from standfast.errors import CompanyInUse
from standfast.jobs.cleanup import trash
from standfast.jobs.context import JobContext
from standfast.jobs.restore.keeping import Keeper
from standfast.jobs.restore.node import LocalNode
from standfast.jobs.restore.plan import Planned
from standfast.jobs.verify.plan import Action
from standfast.postgres.pool import Database

RELEASE_TIMEOUT_S = 15.0
_POLL_S = 0.1


class Settled(msgspec.Struct, omit_defaults=True):
    """`kept`: where what was replaced lies. `session`: what became of the session that ran."""

    company: str
    action: Action
    kept: str
    session: str = ""


async def settle(context: JobContext, node: LocalNode, chosen: Mapping[str, Action]) -> list[Settled]:
    """Each company by its action, "push" or "renew". Raises what the node, the vault or the database raises; companies
    that came before are done then."""
    standing = await node.standing()
    wanted = frozenset(standing.wanted) if standing is not None else frozenset()
    archive = context.settings.state_dir / "archive"
    done = []
    context.progress.step("settling", len(chosen), "companies")
    for name, action in chosen.items():
        company = company_id(name)
        started: Mapping[str, str] = {}
        await node.hold([company])
        try:
            if action == "push":
                kept = await Keeper(archive, context.database, node).keep(Planned(company, "replay"))
                await node.replay(company)
            else:
                kept = await _renew(context.database, node, company, archive)
        finally:
            started = await node.let_go([company], [company] if company in wanted else [])
        done.append(Settled(name, action, str(kept or ""), started.get(company, "")))
        context.progress.advance(1)
    return done


async def _renew(database: Database, node: LocalNode, company: Company, archive: Path) -> Path:
    """The replica follows a state that is of a later epoch than its own: PostgreSQL's becomes that, as it is."""
    place = archive / f"{company}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-replica"
    await asyncio.to_thread(archive.mkdir, 0o700, True, True)
    await node.keep(company, place)
    end = time.monotonic() + RELEASE_TIMEOUT_S
    while True:
        try:
            async with database.transaction("repair.renew", trash.TIMEOUT_S) as connection:
                await trash.begin_write(connection, company)
            break
        except CompanyInUse:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(_POLL_S)
    await node.renew(company)
    return place
