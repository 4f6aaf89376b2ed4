"""The runs of cleanups, as PostgreSQL keeps them.

Invariant: a run's row stands before the first key is in the trash, and goes with the last.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from standfast.authstate.company import company_id
from standfast.authstate.creds import identity_key
from standfast.errors import CompanyUnknown, NotFound, StandfastError
from standfast.jobs.cleanup.report import CleanupReport, Reason
from standfast.jobs.context import JobContext
from standfast.postgres.pool import Database, Statement

_BEGIN = Statement(
    "cleanup.begin",
    """
    insert into standfast_cleanups (run, node, node_name, policy, retention_days)
    select r, $2::uuid, $3, $4, $5 from (
        select case n when 1 then $1::text else $1::text || '-' || n end r from generate_series(1, 1000) n
    ) names where not exists (select from standfast_cleanups c where c.run = r) limit 1
    returning run
    """,
)
_END = Statement(
    "cleanup.end", "update standfast_cleanups set ended_at = now(), report = $2::jsonb where run = $1"
)
_PURGE = Statement(
    "cleanup.purge",
    """
    with old as (
        delete from standfast_cleanups where started_at < now() - $1::int * interval '1 day' returning run
    )
    select count(*) from standfast_trash t where t.run in (select run from old)
    """,
    heavy=True,
)
_LIST = Statement(
    "cleanup.list",
    """
    select c.run, c.node_name, c.policy, extract(epoch from c.started_at)::float8,
           extract(epoch from c.ended_at)::float8, extract(epoch from c.undone_at)::float8, c.report::text,
           (select count(*) from standfast_trash t where t.run = c.run)
    from standfast_cleanups c where $1::text is null or c.run = $1 order by c.started_at desc
    """,
)
_KNOWN = Statement(
    "cleanup.known",
    "select exists (select from whatsapp_auth where company_id = $1)"
    " or exists (select from whatsapp_keys where company_id = $1)",
)
_CREDS = Statement(
    "cleanup.creds",
    "select company_id::text, creds::text from whatsapp_auth where company_id = any($1::text[])",
)
_UNDONE = Statement("cleanup.undone", "update standfast_cleanups set undone_at = now() where run = $1")


class Run(msgspec.Struct, omit_defaults=True):
    """A run as it is listed. `ended_at` None: it runs still, or was ended half-way."""

    run: str
    node: str
    policy: str
    started_at: float
    ended_at: float | None
    undone_at: float | None
    in_trash: int
    removed: int = 0
    identities: dict[str, str] = {}


async def begin(context: JobContext, policy: Reason, retention_days: int) -> str:
    """A name for a run that begins now."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    params = [stamp, context.node, context.node_name, policy, retention_days]
    ((run,),) = await context.database.fetch(_BEGIN, params, retry=False)
    return str(run)


async def end(database: Database, run: str, report: CleanupReport) -> None:
    await database.fetch(_END, [run, msgspec.json.encode(report).decode()])


async def purge(database: Database, days: int) -> int:
    """Empty the trash of what is older; how many keys that were."""
    ((count,),) = await database.fetch(_PURGE, [days], transfer_s=60)
    return int(count)


async def runs(database: Database) -> list[Run]:
    """Newest first."""
    return [_run(row) for row in await database.fetch(_LIST, [None])]


async def find(database: Database, run: str) -> Run:
    """`NotFound` where there is none of that name, or not any more."""
    rows = await database.fetch(_LIST, [run])
    if not rows:
        raise NotFound(f"there is no cleanup {run!r}", next_step="See: standfast cleanup list")
    return _run(rows[0])


async def undone(database: Database, run: str) -> None:
    await database.fetch(_UNDONE, [run])


async def check_known(database: Database, company: str) -> None:
    """`CompanyUnknown` where it has neither creds nor keys."""
    if not (await database.fetch(_KNOWN, [company_id(company)]))[0][0]:
        raise CompanyUnknown(f"company {company!r} has no auth state")


async def identities(database: Database, companies: Sequence[str]) -> dict[str, str]:
    """A digest of each company's identity: keys are of no use to another one."""
    found = {}
    for company, creds in await database.fetch(_CREDS, [list(companies)]):
        try:
            found[company] = hashlib.sha256(identity_key(creds.encode())).hexdigest()[:16]
        except StandfastError:
            continue
    return found


def _run(row: tuple[Any, ...]) -> Run:
    run, node, policy, started_at, ended_at, undone_at, report, in_trash = row
    known = msgspec.json.decode(report, type=CleanupReport) if report else None
    return Run(
        run,
        node,
        policy,
        started_at,
        ended_at,
        undone_at,
        in_trash,
        known.count if known else 0,
        known.identities if known else {},
    )
