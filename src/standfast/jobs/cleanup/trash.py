"""The trash: rows of whatsapp_keys as they were, until they are put back or too old.

Invariant: a row that leaves whatsapp_keys by a cleanup is in the trash by the same transaction, or was so before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from standfast.authstate.company import Company
from standfast.authstate.key_types import CLEANUP_TYPE
from standfast.errors import CompanyInUse, DatabaseRejected
from standfast.jobs.cleanup.rules import Unit
from standfast.postgres.connection import BoundedConnection
from standfast.postgres.failures import sqlstate
from standfast.postgres.pool import Database, Statement

TIMEOUT_S = 30.0
_FENCED = "SF001"
_COLUMNS = "company_id, key_type, key_id, value, created_at, updated_at, expires_at"
_ROW = """
k.company_id::text, k.key_type::text, k.key_id::text, k.value::text, k.created_at::timestamptz,
k.updated_at::timestamptz, k.expires_at::timestamptz
"""
_NAMED = """
unnest($3::text[], $4::text[], $5::timestamptz[]) d (key_type, key_id, updated_at)
where k.company_id = $2 and k.key_type = d.key_type and k.key_id = d.key_id
  and (d.updated_at is null or k.updated_at::timestamptz = d.updated_at)
"""
_COPY = Statement(
    "cleanup.copy",
    f"""
    insert into standfast_trash (run, {_COLUMNS})
    select $1::text, {_ROW} from whatsapp_keys k, {_NAMED}
    on conflict (run, company_id, key_type, key_id) do update set value = excluded.value
    returning key_type, key_id, value
    """,
)
_SETTLE = Statement(
    "cleanup.settle",
    """
    with gone as (
        select * from unnest($3::text[], $4::text[]) d (key_type, key_id)
    ), taken as (
        update standfast_trash t set taken = true from gone
        where t.run = $1 and t.company_id = $2 and t.key_type = gone.key_type and t.key_id = gone.key_id
    )
    delete from standfast_trash t where t.run = $1 and t.company_id = $2 and not t.taken
      and not exists (select from gone where gone.key_type = t.key_type and gone.key_id = t.key_id)
    """,
)
_UNSETTLED = Statement(
    "cleanup.unsettled",
    "select distinct company_id, run from standfast_trash where not taken order by 1, 2",
)
_UNMARK = "delete from whatsapp_keys where company_id = $1 and key_type = $2"
_NODE = "select node::text from standfast_writers where company_id = $1 for update"
_BEGIN = "select epoch, sequence, holder from standfast_begin($1)"
_ADMIT = "select standfast_admit($1, $2, $3)"
_LOCK = f"""
select k.key_type::text, k.key_id::text from whatsapp_keys k, {_NAMED} and $1::text is not null for update of k
"""
_MOVE = f"""
with gone as (
    delete from whatsapp_keys k using {_NAMED}
    returning {_ROW}
)
insert into standfast_trash (run, {_COLUMNS}, taken)
select $1::text, g.*, true from gone g
returning key_type, key_id
"""
_VALUE_TYPE = Statement(
    "cleanup.value_type",
    "select format_type(atttypid, atttypmod) from pg_attribute"
    " where attrelid = 'whatsapp_keys'::regclass and attname = 'value'",
)
_TRASHED = Statement(
    "cleanup.trashed",
    "select key_type, key_id, value from standfast_trash where run = $1 and company_id = $2 and taken order by 1, 2",
    heavy=True,
)
_PUT_BACK = """
with back as (
    insert into whatsapp_keys ({columns})
    select company_id, key_type, key_id, value::{type}, created_at, updated_at, expires_at
    from standfast_trash where run = $1 and company_id = $2 and taken
    on conflict (company_id, key_type, key_id) do nothing returning key_type::text
), emptied as (
    delete from standfast_trash where run = $1 and company_id = $2 and taken returning 1
)
select (select count(*) from emptied), coalesce((select jsonb_object_agg(key_type, n)
    from (select key_type, count(*) n from back group by 1) counted), '{{}}')
"""
# Only where nothing has written the key since it came back.
_PUT_BACK_TIMES = """
with emptied as (
    delete from standfast_trash t using unnest($3::text[], $4::text[], $5::boolean[]) d (key_type, key_id, is_back)
    where t.run = $1 and t.company_id = $2 and t.key_type = d.key_type and t.key_id = d.key_id
    returning t.*, d.is_back
)
update whatsapp_keys k
set value = e.value::{type}, created_at = e.created_at, updated_at = e.updated_at, expires_at = e.expires_at
from emptied e
where k.company_id = e.company_id and k.key_type = e.key_type and k.key_id = e.key_id
  and e.is_back and k.value::text::jsonb = e.value::jsonb
"""


def places(units: Iterable[Unit]) -> list[list[Any]]:
    """Columns of types, ids and times."""
    every = [one for unit in units for one in unit]
    return [[one.key_type for one in every], [one.key_id for one in every], [one.updated_at for one in every]]


async def copy(
    database: Database, run: str, company: Company, units: Sequence[Unit]
) -> dict[tuple[str, str], bytes]:
    """Put copies of what is unwritten since into the trash, not taken yet; the JSON of each."""
    rows = await database.fetch(_COPY, [run, company, *places(units)], transfer_s=10)
    return {(key_type, key_id): value.encode() for key_type, key_id, value in rows}


async def settle(database: Database, run: str, company: Company, removed: Iterable[tuple[str, str]]) -> None:
    """Those were removed; copies of the company's other keys leave the trash."""
    gone = list(removed)
    await database.fetch(
        _SETTLE, [run, company, [one[0] for one in gone], [one[1] for one in gone]], transfer_s=10
    )


async def unsettled(database: Database) -> list[tuple[str, str]]:
    """Companies and runs that ended half-way, with copies of which nobody has said whether their keys have gone."""
    return [(company, run) for company, run in await database.fetch(_UNSETTLED)]


async def move(
    database: Database, run: str, company: Company, units: Sequence[Unit]
) -> list[tuple[str, str]]:
    """Move the units of which every key is unwritten from the table to the trash, in one transaction, as a write of
    nobody's; what was moved. `CompanyInUse` where somebody holds the company by now."""
    try:
        async with database.transaction("cleanup.remove", TIMEOUT_S) as connection:
            await begin_write(connection, company)
            await connection.execute(_UNMARK, [company, CLEANUP_TYPE])
            found = {(t, i) for t, i in await _rows(connection, _LOCK, [run, company, *places(units)])}
            whole = [unit for unit in units if all((one.key_type, one.key_id) in found for one in unit)]
            moved = await _rows(connection, _MOVE, [run, company, *places(whole)])
            return [(str(key_type), str(key_id)) for key_type, key_id in moved]
    except DatabaseRejected as error:
        if sqlstate(error) == _FENCED:
            raise CompanyInUse(f"another node began to write {company}") from None
        raise


async def rows(database: Database, run: str, company: Company) -> list[tuple[str, str, bytes]]:
    """Type, id and JSON of what the run removed of the company."""
    found = await database.fetch(_TRASHED, [run, company], transfer_s=10)
    return [(key_type, key_id, value.encode()) for key_type, key_id, value in found]


async def put_back(database: Database, run: str, company: Company) -> tuple[Counter[str], int]:
    """Empty the company's part of the trash into the table in one transaction, as a write of nobody's: how many came
    back by type, and how many were there already. `CompanyInUse` where somebody holds the company by now."""
    query = _PUT_BACK.format(columns=_COLUMNS, type=await value_type(database))
    async with database.transaction("cleanup.undo", TIMEOUT_S) as connection:
        await begin_write(connection, company)
        ((emptied, back),) = await _rows(connection, query, [run, company])
    restored: Counter[str] = Counter(back)
    return restored, emptied - restored.total()


async def put_back_times(
    database: Database, run: str, company: Company, keys: Mapping[tuple[str, str], bool]
) -> None:
    """The keys are in the table: take them out of the trash, and give those that were put back the times they had."""
    query = _PUT_BACK_TIMES.format(type=await value_type(database))
    async with database.transaction("cleanup.undo", TIMEOUT_S) as connection:
        types, ids = [one[0] for one in keys], [one[1] for one in keys]
        await connection.execute(query, [run, company, types, ids, list(keys.values())])


async def begin_write(connection: BoundedConnection, company: Company) -> None:
    """A write of nobody's. A node that is silent and has not released the company may have writes that are to come."""
    found = await _rows(connection, _NODE, [company])
    if found and found[0][0] is not None:
        raise CompanyInUse(f"the node {found[0][0]} has {company} by now")
    ((epoch, sequence, holder),) = await _rows(connection, _BEGIN, [company])
    if holder is not None:
        raise CompanyInUse(f"the node {holder} holds {company} now")
    await connection.execute(_ADMIT, [company, epoch, sequence + 1])


async def value_type(database: Database) -> str:
    """That of the column `value`: a bot's own may be text."""
    return str((await database.fetch(_VALUE_TYPE))[0][0])


async def _rows(connection: BoundedConnection, query: str, params: list[Any]) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query, params)).fetchall()
