"""What the database that is to be restored into has now.

Invariant: it is only looked at; a table that is missing is an empty one here, and a database that cannot be read is an
error, never an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from standfast.authstate.creds import parse_creds
from standfast.errors import AuthStateCorrupt
from standfast.postgres.pool import Database

_TIMEOUT_S = 300.0
_NAMES = ("whatsapp_auth", "whatsapp_keys", "standfast_writers", "standfast_identity", "standfast_nodes")
_THERE = "select name from unnest($1::text[]) name where to_regclass(name) is not null"
_AUTH = "select company_id::text, creds::text from whatsapp_auth"
_KEYS = "select company_id::text, count(*), extract(epoch from max(updated_at))::float8 from whatsapp_keys group by 1"
_WRITERS = """
select w.company_id, w.epoch, w.sequence, w.claimed_by::text, w.base, n.node::text, n.name
from standfast_writers w
left join standfast_nodes n on n.node = w.node and n.alive_until > clock_timestamp()
"""
_IDENTITY = "select id::text from standfast_identity"


@dataclass(slots=True)
class Present:
    """One company as it is there now. `identity`: None where there are no creds, or where they cannot be read
    (`is_damaged`). `base`: nothing was written under a later epoch. `holder`: the living node that leases it, by its
    uuid, and its name. `written_at`: of the newest key."""

    identity: bytes | None = field(default=None, repr=False)
    has_creds: bool = False
    is_damaged: bool = False
    keys: int = 0
    written_at: float | None = None
    epoch: int = 0
    sequence: int = 0
    next_pre_key_id: int = 0
    claimed_by: str | None = None
    base: int = 0
    holder: str | None = None
    holder_name: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """`identity`: of the database; None where it has none yet. `companies`: those that have creds or keys. `writers`:
    of all that ever had, how far their history has come."""

    identity: str | None
    companies: Mapping[str, Present]
    writers: Mapping[str, Present]

    def of(self, company: str) -> Present:
        """What is known of it there; an empty one where nothing is."""
        return self.companies.get(company) or self.writers.get(company) or Present()


async def look_at(database: Database) -> Target:
    """Everything that a plan needs, as of one moment."""
    async with database.transaction("restore.look", _TIMEOUT_S) as connection:
        await connection.execute("set transaction isolation level repeatable read, read only")
        there = {name for (name,) in await _rows(connection, _THERE, [list(_NAMES)])}
        found: dict[str, Present] = {}
        if {"standfast_writers", "standfast_nodes"} <= there:
            for company, *facts in await _rows(connection, _WRITERS):
                epoch, sequence, claimed_by, base, holder, name = facts
                found[company] = Present(
                    epoch=epoch,
                    sequence=sequence,
                    claimed_by=claimed_by,
                    base=base,
                    holder=holder,
                    holder_name=name,
                )
        living: dict[str, Present] = {}
        if "whatsapp_auth" in there:
            for company, creds in await _rows(connection, _AUTH):
                living[company] = _with_creds(found.get(company) or Present(), creds)
        if "whatsapp_keys" in there:
            for company, keys, written_at in await _rows(connection, _KEYS):
                one = living.setdefault(company, found.get(company) or Present())
                one.keys, one.written_at = keys, written_at
        identity = await _rows(connection, _IDENTITY) if "standfast_identity" in there else []
    return Target(identity[0][0] if identity else None, living, found)


def _with_creds(present: Present, creds: str) -> Present:
    present.has_creds = True
    try:
        found = parse_creds(creds.encode())
        present.identity, present.next_pre_key_id = found.identity_public, found.next_pre_key_id
    except AuthStateCorrupt:
        present.is_damaged = True
    return present


async def _rows(
    connection: AsyncConnection[tuple[Any, ...]], query: str, params: list[Any] | None = None
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, params)).fetchall()
