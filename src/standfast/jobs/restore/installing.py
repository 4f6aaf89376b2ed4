"""One company put in place.

Invariant: one transaction takes the company from whoever has it, under an epoch above all that are known of it, and
replaces its whole state: a crash leaves it wholly old or wholly new, and every former owner is overtaken.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseRejected, RestoreRefused
from standfast.jobs.restore import rules
from standfast.jobs.restore.plan import Planned
from standfast.jobs.restore.rules import Ruled
from standfast.jobs.restore.source import Wished
from standfast.jobs.restore.staging import TABLE
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.pool import Database, Statement

RESTORER = str(uuid.uuid5(uuid.NAMESPACE_URL, "standfast:restore"))
"""Whose a restored company's epoch is: no node's, so that every replica gives way to it."""
_TIMEOUT_S = 300.0
_ROW = "select epoch, sequence, node::text from standfast_writers where company_id = $1 for update"
_ACQUIRE = "select outcome, epoch, sequence, holder from standfast_acquire($1, $2::uuid, $3, $4, true, $5)"
_ADMIT = "select standfast_admit($1, $2, $3)"
_FREE = "update standfast_writers set node = null where company_id = $1"
_REMOVE_KEYS = "delete from whatsapp_keys where company_id = $1"
_REMOVE_AUTH = "delete from whatsapp_auth where company_id = $1"
_CREDS = """
insert into whatsapp_auth (company_id, creds, created_at, updated_at)
values ($1, convert_from($2::bytea, 'UTF8')::jsonb, now(), now())
"""
_KEYS = f"""
insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at, expires_at)
select company_id, key_type, key_id, value::jsonb, coalesce(created_at, now()), coalesce(updated_at, now()), expires_at
from {TABLE} where company_id = $1 and key_type <> all($2::text[])
and not (key_type = 'sender-key'
         and split_part(key_id, '::', 2) || '::' || split_part(key_id, '::', 3) = any($3::text[]))
"""
# An undone cleanup must not bring back what a restore has left out.
_TRASH = """
delete from standfast_trash
where company_id = $1 and key_type in ('session', 'sender-key', 'sender-key-memory')
"""
_GIVEN = """
insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
select $1, u.key_type, u.key_id, convert_from(u.value, 'UTF8')::jsonb, now(), now()
from unnest($2::text[], $3::text[], $4::bytea[]) as u (key_type, key_id, value)
"""
_WISH = """
insert into standfast_sessions (company_id, wanted, phone, unlinked_at) values ($1, $2, $3, $4::timestamptz)
on conflict (company_id) do nothing
"""
_HAS_WISH = Statement("restore.wish", _WISH)


@dataclass(frozen=True, slots=True)
class Fence:
    """From whom a company is taken although that node lives: from every one (`force`), or from the node `own`, which
    lets nothing open it."""

    own: str | None = None
    force: bool = False


async def install(database: Database, planned: Planned, ruled: Ruled, fence: Fence) -> int:
    """Put the staged keys and `ruled.creds` in place of what there is; how many keys that are. `CompanyInUse`
    where a living node has it and that is not overridden, `RestoreRefused` where it was written since the plan."""
    async with database.transaction("restore.install", _TIMEOUT_S) as connection:
        await _take(connection, planned, fence)
        await connection.execute(_CREDS, [planned.company, ruled.creds])
        params = [planned.company, list(ruled.dropped_types), list(ruled.dropped_senders)]
        cursor = await connection.execute(_KEYS, params)
        if rules.SESSION in ruled.dropped_types:
            await connection.execute(_TRASH, [planned.company])
        await connection.execute(_FREE, [planned.company])
        return cursor.rowcount


async def install_given(
    database: Database,
    planned: Planned,
    creds: bytes | None,
    keys: dict[str, dict[str, bytes]],
    fence: Fence,
) -> None:
    """As `install`, of a state at hand; without creds the company has none afterwards."""
    flat = [(key_type, key_id, value) for key_type, ids in keys.items() for key_id, value in ids.items()]
    columns = [list(one) for one in zip(*flat, strict=True)] or [[], [], []]
    async with database.transaction("restore.install", _TIMEOUT_S) as connection:
        await _take(connection, planned, fence)
        if creds is not None:
            await connection.execute(_CREDS, [planned.company, creds])
            await connection.execute(_GIVEN, [planned.company, *columns])
        await connection.execute(_FREE, [planned.company])


async def wish(database: Database, company: Company, wished: Wished | None) -> None:
    """Have its session wanted as it was, where the database knows nothing of that."""
    if wished is not None:
        await database.fetch(_HAS_WISH, [company, wished.wanted, wished.phone, wished.unlinked_at])


async def _take(connection: BoundedConnection, planned: Planned, fence: Fence) -> None:
    company = planned.company
    found = await (await connection.execute(_ROW, [company])).fetchone()
    epoch, sequence, node = found or (0, 0, None)
    force = fence.force or (node is not None and node == fence.own)
    known = max(planned.epoch, epoch)
    row = await (await connection.execute(_ACQUIRE, [company, RESTORER, known, epoch, force])).fetchone()
    assert row is not None
    outcome, taken, _, holder = row
    if outcome == "held":
        raise CompanyInUse(
            f"the node {holder} holds {company}",
            next_step="Stop its session there, or take it from that node with --force.",
            holder=holder,
        )
    if outcome != "acquired":
        raise RestoreRefused(f"another owner has taken {company} meanwhile", next_step="Go on with: --resume")
    if sequence > planned.sequence_now and not force:
        raise RestoreRefused(
            f"{company} was written since the plan was made",
            next_step="Look at the plan again, then go on: --resume",
        )
    last = max(sequence, planned.sequence_then, planned.sequence_known or 0) + 1
    admitted = await (await connection.execute(_ADMIT, [company, taken, last])).fetchone()
    if admitted != (None,):
        raise DatabaseRejected(f"PostgreSQL does not let {company} be restored", cause="schema")
    for query in (_REMOVE_KEYS, _REMOVE_AUTH):
        await connection.execute(query, [company])
