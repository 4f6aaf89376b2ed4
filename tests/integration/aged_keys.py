"""Keys of any age, and a time that passes at once: for the tests of what the tables hold."""

from __future__ import annotations

import uuid

from standfast.health.keys import KeyWatch
from standfast.health.thresholds import Thresholds
from standfast.postgres.pool import Database, Statement

ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
LOW = Thresholds(expired_warning=3, expired_error=6)
KEY = """
insert into whatsapp_keys (company_id, key_type, key_id, value, created_at, updated_at)
select $1, $2, coalesce($5, n::text), '1', now(), now() - $4::float8 * interval '1 day'
from generate_series($6::int + 1, $6 + $3) n
"""


async def run(database: Database, sql: str, *params: object) -> list[tuple[object, ...]]:
    return await database.fetch(Statement("test", sql), params)


async def add(
    database: Database,
    key_type: str,
    count: int,
    days: float,
    *,
    company: str = "acme",
    key_id: str | None = None,
    after: int = 0,
) -> None:
    """Keys that were last written so many days ago."""
    await run(database, KEY, company, key_type, count, days, key_id, after)


async def pass_time(database: Database, seconds: float) -> None:
    """As if everything so far had happened that long before it did."""
    for table, columns in {
        "whatsapp_keys": ("updated_at",),
        "standfast_census": ("taken_at", "counted_at"),
        "standfast_duties": ("until",),
    }.items():
        moved = ", ".join(f"{column} = {column} - $1::float8 * interval '1 second'" for column in columns)
        await run(database, f"update {table} set {moved}", seconds)


def codes(watch: KeyWatch) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in watch.findings()]
