"""How many keys there are, how old, and what they take on the server's disk.

Invariant: reads only.
"""

from __future__ import annotations

from dataclasses import replace

from standfast.errors import StandfastError
from standfast.jobs.cleanup.report import Measures
from standfast.jobs.cleanup.turn import scan
from standfast.postgres.pool import Database, Statement
from standfast.postgres.statistics import AGE_BUCKETS, AGE_LIMITS_DAYS

VACUUM_TIMEOUT_S = 600.0
_KEYS = Statement(
    "cleanup.measure",
    f"""
    select width_bucket(extract(epoch from now() - updated_at::timestamptz) / 86400,
                        array{list(AGE_LIMITS_DAYS)}::numeric[]), count(*),
           extract(epoch from min(updated_at::timestamptz))::float8,
           extract(epoch from max(updated_at::timestamptz))::float8
    from whatsapp_keys where $1::text is null or company_id::text = $1 group by 1
    """,
    heavy=True,
)
_SIZES = Statement(
    "cleanup.sizes",
    """
    select pg_table_size(t), pg_indexes_size(t), pg_total_relation_size(t) from (select 'whatsapp_keys'::regclass t) s
    """,
)
_OWNED = Statement(
    "cleanup.owned",
    "select pg_has_role(relowner, 'USAGE') from pg_class where oid = 'whatsapp_keys'::regclass",
)
_LOCK_TIMEOUT = Statement("cleanup.lock_timeout", "set lock_timeout = '2s'")
_VACUUM = Statement("cleanup.vacuum", "vacuum (analyze) whatsapp_keys", heavy=True)


async def measure(database: Database, company: str | None = None) -> Measures:
    """Keys of the company, or of all; sizes are the whole table's. One pass over it."""
    rows = await scan(database, _KEYS, [company])
    ((table, index, total),) = await database.fetch(_SIZES)
    ages = dict.fromkeys(AGE_BUCKETS, 0)
    for bucket, count, _, _ in rows:
        if bucket is not None:
            ages[AGE_BUCKETS[bucket]] += count
    oldest = [row[2] for row in rows if row[2] is not None]
    newest = [row[3] for row in rows if row[3] is not None]
    return Measures(
        sum(row[1] for row in rows),
        table,
        index,
        total,
        ages,
        min(oldest, default=None),
        max(newest, default=None),
    )


async def vacuum(database: Database) -> str:
    """Let PostgreSQL use the room again: "done", or why not. Plain, never full: nobody is kept from the table."""
    options = replace(
        database.options,
        max_connections=1,
        statement_timeout_s=VACUUM_TIMEOUT_S,
        application_name="standfast vacuum",
    )
    try:
        if not (await database.fetch(_OWNED))[0][0]:
            return "not done: this role does not own the table"
        async with Database(options, database.observer) as apart:
            await apart.fetch(_LOCK_TIMEOUT)
            await apart.fetch(_VACUUM, retry=False)
    except StandfastError as error:
        return f"not done: {error.message}"
    return "done"
