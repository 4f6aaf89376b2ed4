"""What PostgreSQL's catalog knows of the auth-state tables: sizes, and how many rows came and went.

Invariant: no statement here reads a key; its cost does not grow with the number of keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from standfast.errors import DatabaseRejected
from standfast.postgres.pool import Database, Statement

TABLES = """
recursive tables (name, oid) as (
    select name, to_regclass(name)::oid from unnest(array['whatsapp_auth', 'whatsapp_keys']) name
    union all select t.name, i.inhrelid from pg_inherits i join tables t on i.inhparent = t.oid
)
"""
"""For `with`: both tables, and their partitions where an operator made some."""

_ESTIMATE = Statement(
    "health.estimate",
    f"""
    with {TABLES}, keys as (select oid from tables where name = 'whatsapp_keys' and oid is not null)
    select (select count(*) from whatsapp_auth),
           (select sum(greatest(c.reltuples, 0))::bigint from keys join pg_class c using (oid) where c.relkind = 'r'),
           (select sum(pg_relation_size(oid))::bigint from keys),
           (select sum(pg_stat_get_tuples_inserted(oid))::bigint from keys),
           (select sum(pg_stat_get_tuples_deleted(oid))::bigint from keys),
           (select sum(pg_table_size(oid))::bigint from tables),
           (select sum(pg_indexes_size(oid))::bigint from tables)
    """,
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """`auth_records` is exact. `keys` is the planner's idea of whatsapp_keys, as old as its last vacuum or analyze;
    `inserted` and `deleted` count its rows since the server's statistics began, and may go back to 0. `heap_bytes` is
    what a count of the keys has to read; `table_bytes` and `index_bytes` are those of both tables."""

    auth_records: int
    keys: int
    heap_bytes: int
    inserted: int
    deleted: int
    table_bytes: int
    index_bytes: int


async def read_estimate(database: Database) -> Estimate:
    """Raises like every database call; `DatabaseRejected` where the tables are not there."""
    ((auth_records, *of_keys),) = await database.fetch(_ESTIMATE)
    if any(figure is None for figure in of_keys):
        raise DatabaseRejected(
            "the database has no table whatsapp_keys", next_step="Run 'standfast migrate'.", cause="schema"
        )
    return Estimate(auth_records, *of_keys)
