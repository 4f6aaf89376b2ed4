"""What was found over time: the rows of `standfast_census`, for growth, for other nodes and for the next start.

Invariant: a row says when it was taken by the server's clock, and is never changed; five weeks of them are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from standfast.postgres.census import Census
from standfast.postgres.estimates import Estimate
from standfast.postgres.pool import Database, Statement

# A row from a time when the server's clock ran ahead must not stand for the present.
_LATEST = Statement(
    "health.latest",
    """
    select node_name, exact, auth_records, keys, expired, table_bytes, index_bytes, counted_at,
           extract(epoch from clock_timestamp() - taken_at)::float8,
           extract(epoch from clock_timestamp() - counted_at)::float8,
           (select census from standfast_census
            where census is not null and taken_at <= now() + interval '1 minute' order by taken_at desc limit 1)
    from standfast_census where taken_at <= now() + interval '1 minute' order by taken_at desc limit 1
    """,
)
_PUT = Statement(
    "health.put",
    """
    insert into standfast_census
        (node, node_name, counted_at, exact, auth_records, keys, expired, table_bytes, index_bytes, census)
    values ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb)
    on conflict (taken_at, node) do nothing
    """,
)
_GROWTH = Statement(
    "health.growth",
    """
    select regr_slope(keys, days), regr_slope(bytes, days) from (
        select keys::float8 as keys, (table_bytes + index_bytes)::float8 as bytes,
               extract(epoch from taken_at - now())::float8 / 86400 as days
        from standfast_census where taken_at between now() - interval '24 hours' and now() + interval '1 minute'
    ) r having max(days) - min(days) >= 1.0 / 24
    """,
)
_PRUNE = Statement(
    "health.prune",
    """
    delete from standfast_census c using (
        select taken_at, node, row_number() over (partition by date_trunc('hour', taken_at) order by taken_at, node) n
        from standfast_census
    ) r
    where c.taken_at = r.taken_at and c.node = r.node
      and (c.taken_at < now() - interval '2 days' and r.n > 1
           or c.taken_at < now() - interval '35 days' or c.taken_at > now() + interval '1 hour')
    """,
)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest row: how long ago it was taken, how long ago the keys were counted, and what that count found."""

    node_name: str
    exact: bool
    auth_records: int
    keys: int
    expired: int
    table_bytes: int
    index_bytes: int
    counted_at: datetime
    age_s: float
    counted_s: float
    census: Census


@dataclass(frozen=True, slots=True)
class Growth:
    """Of a day, by the last 24 hours."""

    keys_a_day: float
    bytes_a_day: float


async def latest(database: Database) -> Latest | None:
    """None: nothing was counted yet. A count in a form that this version does not know is as good as none."""
    rows = await database.fetch(_LATEST)
    if not rows:
        return None
    *figures, age_s, counted_s, census = rows[0]
    try:
        found = msgspec.convert(census, Census)
    except msgspec.ValidationError:
        return None
    rest: list[Any] = [max(0.0, age_s), max(0.0, counted_s), found]
    return Latest(*figures, *rest)


async def put(
    database: Database,
    node: str,
    node_name: str,
    estimate: Estimate,
    *,
    keys: int,
    expired: int,
    counted_at: datetime,
    exact: bool,
    census: Census | None,
) -> None:
    """Write a row, of now by the server's clock; `census` where the keys have just been counted."""
    document = msgspec.json.encode(census).decode() if census is not None else None
    sizes = (estimate.table_bytes, estimate.index_bytes)
    params = [
        node,
        node_name,
        counted_at,
        exact,
        estimate.auth_records,
        keys,
        expired,
        *sizes,
        document,
    ]
    await database.fetch(_PUT, params)


async def growth(database: Database) -> Growth | None:
    """None until there are rows an hour apart."""
    rows = await database.fetch(_GROWTH)
    return Growth(*rows[0]) if rows and None not in rows[0] else None


async def prune(database: Database) -> None:
    """Of days past the second keep a row an hour, and of weeks past the fifth none."""
    await database.fetch(_PRUNE)
