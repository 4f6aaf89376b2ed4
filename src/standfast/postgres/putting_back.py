"""A company's whole state put back into PostgreSQL by the node that went on without it.

Invariant: one transaction looks whether PostgreSQL still has what it was seen to have, takes the company under a new
epoch and makes its rows what they are to be: whoever moved on in between is not overwritten, and half of it never
stands. Rows that are so already are left as they are, with their times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from standfast.authstate.change import Change
from standfast.authstate.company import Company
from standfast.errors import CompanyInUse, DatabaseRejected, EmergencyRefused
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.pool import Database

_SLOWEST_LINK_BYTES_S = 100_000
_LOCK_TIMEOUT_MS = 2_000
_ROW = "select epoch, sequence from standfast_writers where company_id = $1 for update"
_ACQUIRE = "select outcome, epoch, holder from standfast_acquire($1, $2::uuid, $3, $4, true, false)"
_ADMIT = "select outcome from standfast_admit_delivery($1, $2, 1, $3, true)"
_CREDS = """
insert into whatsapp_auth as a (company_id, creds, created_at, updated_at)
values ($1, convert_from($2::bytea, 'UTF8')::jsonb, now(), now())
on conflict (company_id) do update set creds = excluded.creds, updated_at = excluded.updated_at
where a.creds::text is distinct from excluded.creds::text
"""
_NO_CREDS = "delete from whatsapp_auth where company_id = $1"
_REMOVE = """
delete from whatsapp_keys k where company_id = $1 and not exists (
    select from unnest($2::text[], $3::text[]) as u (key_type, key_id)
    where u.key_type = k.key_type and u.key_id = k.key_id)
"""
# What is the same already is not even locked: that would cost as much as writing it.
_KEYS = """
insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
select $1, u.key_type, u.key_id, u.value, now(), now()
from (
    select key_type, key_id, convert_from(value, 'UTF8')::jsonb as value
    from unnest($2::text[], $3::text[], $4::bytea[]) as given (key_type, key_id, value)
) u
left join whatsapp_keys k on k.company_id = $1 and k.key_type = u.key_type and k.key_id = u.key_id
where k.value is null or k.value::text is distinct from u.value::text
on conflict (company_id, key_type, key_id) do update
    set value = excluded.value, updated_at = excluded.updated_at, expires_at = null
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What PostgreSQL's row of a company said when it was looked at; (0, 0): there was none."""

    epoch: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A company's state at `last`. `known`: the epoch that it was written under."""

    company: Company
    node: str
    known: int
    last: int
    state: Change = field(repr=False)


async def put_back(
    database: Database, whole: Whole, seen: Seen, taken: Callable[[int], Awaitable[None]]
) -> int:
    """Make PostgreSQL have `whole`; under which epoch. `taken` is told of that before PostgreSQL has anything: what it
    notes must be durable when it returns. `EmergencyRefused` where PostgreSQL's row is not `seen` any more,
    `CompanyInUse` where another living node leases the company; then nothing was changed."""
    limit_s = database.options.statement_timeout_s + whole.state.size / _SLOWEST_LINK_BYTES_S
    async with database.transaction("emergency.put_back", limit_s) as connection:
        await connection.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}".encode())
        epoch = await _take(connection, whole, seen)
        await taken(epoch)
        row = await (await connection.execute(_ADMIT, [whole.company, epoch, whole.last])).fetchone()
        if row != ("admitted",):
            raise DatabaseRejected(f"PostgreSQL does not let {whole.company} be put back", cause="schema")
        await _write(connection, whole)
    return epoch


async def _take(connection: BoundedConnection, whole: Whole, seen: Seen) -> int:
    company = whole.company
    row = await (await connection.execute(_ROW, [company])).fetchone() or (0, 0)
    if row != (seen.epoch, seen.sequence):
        raise moved_on(company)
    known = max(whole.known, seen.epoch)
    found = await (await connection.execute(_ACQUIRE, [company, whole.node, known, seen.epoch])).fetchone()
    assert found is not None, "a function answers with one row"
    outcome, epoch, holder = found
    if outcome == "held":
        raise CompanyInUse(
            f"the node {holder} holds {company}",
            next_step="Stop its session there, or leave it to that node: --prefer postgresql --company "
            + company,
            holder=holder,
        )
    if outcome != "acquired":
        raise moved_on(company)
    return int(epoch)


async def _write(connection: BoundedConnection, whole: Whole) -> None:
    company, state = whole.company, whole.state
    flat = [
        (key_type, key_id, value)
        for key_type, ids in state.keys.items()
        for key_id, value in ids.items()
        if value is not None
    ]
    types, ids, values = [list(one) for one in zip(*flat, strict=True)] or [[], [], []]
    await connection.execute(_REMOVE, [company, types, ids])
    await connection.execute(_KEYS, [company, types, ids, values])
    if state.creds is None:
        await connection.execute(_NO_CREDS, [company])
    else:
        await connection.execute(_CREDS, [company, state.creds])


def moved_on(company: str) -> EmergencyRefused:
    """Somebody has taken or written the company since it was looked at."""
    return EmergencyRefused(
        f"PostgreSQL's state of {company} has moved on since it was compared: nothing of it was overwritten",
        next_step="Compare anew: standfast emergency to-postgres --dry-run",
    )
