"""A census: every key counted, by type, company and age, in one pass over the table.

Invariant: reads only, from one snapshot, in one process of the server's and within a time limit. What it found can be
carried on in time: how many keys pass their age limit later is in it, so that a later figure is never too low.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from standfast.authstate.key_types import OWN_PREFIX
from standfast.authstate.retention import RETENTIONS, age_limit_days, retention_of
from standfast.postgres.estimates import Estimate
from standfast.postgres.pool import Database
from standfast.postgres.statistics import AGE_BUCKETS, AGE_LIMITS_DAYS

TIMEOUT_S = 60.0
TOP_COMPANIES = 10
TOP_TYPES = 100
OTHER_TYPES = "_other"
_LOCK_TIMEOUT_S = 2
_DAY_S = 86_400.0
# How long after the census a key passes its age limit: to five minutes for two hours, then to the hour for two days.
_STEPS_S = (*range(0, 7_200, 300), *range(7_200, 172_801, 3_600))
_KEPT_IDS = sorted({kept for rule in RETENTIONS.values() for kept in rule.kept_ids})

# The hash that groups may take some memory, and no second process of the server's is to help: this is in no hurry.
# The server gives up before our own deadline, which would cost the pool its connections.
_SETTINGS = f"""
set local max_parallel_workers_per_gather = 0; set local jit = off; set local work_mem = '32MB';
set local lock_timeout = '{_LOCK_TIMEOUT_S}s'; set local statement_timeout = {{limit_ms}}
"""
# Bucket n holds what was written before the n-th age and not before the one in front of it; 0: before all of them.
_COUNT = """
with counted as materialized (
    select company_id::text as company, coalesce(key_type, '')::text as key_type, key_id = any($2::text[]) as kept,
           width_bucket(updated_at::timestamptz, array(
               select now() - age * interval '1 second' from unnest($1::float8[]) with ordinality a (age, n) order by n
           )) as bucket,
           count(*) as n
    from whatsapp_keys {sample} group by 1, 2, 3, 4
), companies as (
    select company, sum(n)::bigint as n,
           coalesce(sum(n) filter (where bucket <= r.last and not (kept and r.keeps)), 0)::bigint as expired
    from counted left join unnest($3::text[], $4::int[], $5::boolean[]) r (key_type, last, keeps) using (key_type)
    group by 1 order by 2 desc, 1 limit $6
)
select null, key_type, kept, bucket, sum(n)::bigint, null from counted group by 2, 3, 4
union all select company, null, null, null, n, expired from companies
"""
_COUNT_ALL = _COUNT.format(sample="")
_COUNT_SAMPLE = _COUNT.format(sample="tablesample system ($7::float4)")
_TIMES = "select now(), extract(epoch from clock_timestamp() - now())::float8"


class CompanyCount(msgspec.Struct, frozen=True, array_like=True):
    company: str
    keys: int
    expired: int


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """`share`: of the table's pages that were read; below 1 every count is an extrapolation. `own` of the `keys` are of
    Standfast's own types. `expired` by type: keys past their age limit (`authstate.retention`); `crossing`: how many
    pass it, and how many seconds after the census at the earliest. `inserted`, `deleted`: the server's counters."""

    retention_days: int
    duration_s: float
    share: float
    keys: int
    own: int
    ages: dict[str, int]
    types: dict[str, int]
    expired: dict[str, int]
    crossing: list[tuple[float, int]]
    companies: list[CompanyCount]
    inserted: int
    deleted: int

    def expired_after(self, elapsed_s: float) -> int:
        """How many keys are past their age limit by then, if none was written or removed since: never fewer than there
        are, within two days of the census."""
        return sum(self.expired.values()) + sum(n for after_s, n in self.crossing if after_s < elapsed_s)


async def take_census(
    database: Database,
    retention_days: int,
    before: Estimate,
    *,
    share: float = 1.0,
    timeout_s: float = TIMEOUT_S,
) -> tuple[Census, datetime]:
    """The census, and when it was by the server's clock. Raises like every database call; `before` was read just
    before."""
    limits = _limits(retention_days)
    ages = _ages(limits.values())
    params: list[Any] = [
        ages,
        _KEPT_IDS,
        list(limits),
        [ages.index(limit) for limit in limits.values()],
        [bool(retention_of(key_type).kept_ids) for key_type in limits],
        TOP_COMPANIES,
    ]
    async with database.transaction("health.census", timeout_s) as connection:
        await connection.execute("set transaction isolation level repeatable read read only")
        for setting in _SETTINGS.format(limit_ms=int(timeout_s * 900)).strip().split(";"):
            await connection.execute(setting.strip())
        if share < 1:
            cursor = await connection.execute(_COUNT_SAMPLE, [*params, share * 100])
        else:
            cursor = await connection.execute(_COUNT_ALL, params)
        rows = await cursor.fetchall()
        ((when, duration_s),) = await (await connection.execute(_TIMES)).fetchall()
    tally = _Tally(limits, ages, share)
    for row in rows:
        tally.add(*row)
    return tally.census(retention_days, duration_s, before), when


class _Tally:
    """Rows of the count, added up."""

    def __init__(self, limits: Mapping[str, float], ages: list[float], share: float) -> None:
        self._limits = limits
        self._ages = ages
        self._share = share
        self._types: Counter[str] = Counter()
        self._buckets: Counter[str] = Counter(dict.fromkeys(AGE_BUCKETS, 0))
        self._expired: Counter[str] = Counter()
        self._crossing: Counter[float] = Counter()
        self._companies: list[CompanyCount] = []

    def add(
        self,
        company: str | None,
        key_type: str | None,
        kept: bool,
        bucket: int | None,
        count: int,
        expired: int | None,
    ) -> None:
        count = round(count / self._share)
        if key_type is None:
            if company is not None:
                self._companies.append(CompanyCount(company, count, round((expired or 0) / self._share)))
            return
        self._types[key_type] += count
        if bucket is None:
            # A key without a time counts as new: what is not known to be old does not expire.
            self._buckets[AGE_BUCKETS[0]] += count
            return
        youngest = self._ages[bucket] if bucket < len(self._ages) else 0.0
        self._buckets[_bucket_name(youngest)] += count
        limit = self._limits.get(key_type)
        if limit is None or (kept and retention_of(key_type).kept_ids):
            return
        if youngest >= limit:
            self._expired[key_type] += count
        elif limit - self._ages[bucket - 1] <= _STEPS_S[-1]:
            self._crossing[limit - self._ages[bucket - 1]] += count

    def census(self, retention_days: int, duration_s: float, before: Estimate) -> Census:
        return Census(
            retention_days=retention_days,
            duration_s=duration_s,
            share=self._share,
            keys=self._types.total(),
            own=sum(count for name, count in self._types.items() if name.startswith(OWN_PREFIX)),
            ages=dict(self._buckets),
            types=_largest(self._types),
            expired=dict(self._expired),
            crossing=sorted(self._crossing.items()),
            companies=self._companies,
            inserted=before.inserted,
            deleted=before.deleted,
        )


def _limits(retention_days: int) -> dict[str, float]:
    """Age limits in seconds, by type; types without one are absent."""
    days = {key_type: age_limit_days(key_type, retention_days) for key_type in RETENTIONS}
    return {key_type: limit * _DAY_S for key_type, limit in days.items() if limit is not None}


def _ages(limits: Iterable[float]) -> list[float]:
    """Where the buckets meet, in seconds, the oldest first."""
    passing = {limit - step for limit in set(limits) for step in _STEPS_S}
    fixed = {days * _DAY_S for days in AGE_LIMITS_DAYS}
    return sorted((age for age in passing | fixed if age > 0), reverse=True)


def _largest(types: Counter[str]) -> dict[str, int]:
    """A foreign client may have made any number of types: the small ones of very many are summed up."""
    named = dict(types.most_common(TOP_TYPES))
    rest = types.total() - sum(named.values())
    return named | ({OTHER_TYPES: rest} if rest else {})


def _bucket_name(youngest_s: float) -> str:
    return AGE_BUCKETS[sum(youngest_s >= days * _DAY_S for days in AGE_LIMITS_DAYS)]
