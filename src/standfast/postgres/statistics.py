"""What the tables hold: counts, sizes and ages, for one company or for all.

Invariant: reads only, from one snapshot; numbers, types and times: never an id or a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from standfast.authstate.company import Company
from standfast.postgres.estimates import TABLES
from standfast.postgres.pool import Database

AGE_BUCKETS = ("<1d", "1-7d", "7-14d", "14-30d", ">30d")
AGE_LIMITS_DAYS = (1, 7, 14, 30)  # where they meet
_TIMEOUT_S = 60.0

_TYPES = """
select key_type, count(*), coalesce(sum(octet_length(value::text)), 0)
from whatsapp_keys where $1::text is null or company_id = $1 group by 1 order by 2 desc, 1
"""
_AGES = f"""
select width_bucket(extract(epoch from now() - updated_at) / 86400, array{list(AGE_LIMITS_DAYS)}::numeric[]) bucket,
       count(*)
from whatsapp_keys where $1::text is null or company_id = $1 group by 1
"""
_ENDS = """
select min(updated_at)::timestamptz, max(updated_at)::timestamptz
from whatsapp_keys where $1::text is null or company_id = $1
"""
_CREDS = "select count(*) from whatsapp_auth where $1::text is null or company_id = $1"
_COMPANIES = """
select count(*) from (select company_id from whatsapp_auth where $1::text is null or company_id = $1
                      union select company_id from whatsapp_keys where $1::text is null or company_id = $1) c
"""
_SIZES = f"""
with {TABLES} select coalesce(sum(pg_table_size(oid)), 0), coalesce(sum(pg_indexes_size(oid)), 0),
                     coalesce(sum(pg_total_relation_size(oid)), 0)
from tables
"""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sizes on disk are those of both tables, whichever company was asked for; `value_bytes` is the company's.
    Ages count from the last write of a key; `oldest` and `newest` are None where there are no keys."""

    company: str | None
    companies: int
    creds: int
    keys: int
    keys_by_type: Mapping[str, int]
    value_bytes_by_type: Mapping[str, int]
    keys_by_age: Mapping[str, int]
    oldest: datetime | None
    newest: datetime | None
    table_bytes: int
    index_bytes: int
    total_bytes: int

    @property
    def records(self) -> int:
        return self.creds + self.keys

    @property
    def value_bytes(self) -> int:
        return sum(self.value_bytes_by_type.values())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, times in ISO 8601."""
        times = {
            name: when.isoformat() if (when := getattr(self, name)) else None for name in ("oldest", "newest")
        }
        return asdict(self) | times | {"records": self.records, "value_bytes": self.value_bytes}


async def statistics(database: Database, company: Company | None = None) -> Statistics:
    """What the database holds of `company`, or of all; raises like every database call."""
    async with database.transaction("statistics", _TIMEOUT_S) as connection:
        await connection.execute("set transaction isolation level repeatable read read only")
        types = await _rows(connection, _TYPES, company)
        ages = dict(await _rows(connection, _AGES, company))
        oldest, newest = (await _rows(connection, _ENDS, company))[0]
        table_bytes, index_bytes, total_bytes = (await (await connection.execute(_SIZES)).fetchall())[0]
        return Statistics(
            company=company,
            companies=(await _rows(connection, _COMPANIES, company))[0][0],
            creds=(await _rows(connection, _CREDS, company))[0][0],
            keys=sum(count for _, count, _ in types),
            keys_by_type={key_type: count for key_type, count, _ in types},
            value_bytes_by_type={key_type: int(size) for key_type, _, size in types},
            keys_by_age=_buckets(ages),
            oldest=oldest,
            newest=newest,
            table_bytes=int(table_bytes),
            index_bytes=int(index_bytes),
            total_bytes=int(total_bytes),
        )


def _buckets(counts: Mapping[int | None, int]) -> dict[str, int]:
    """A key without a time counts as new, as one does whose time is still to come."""
    named = {name: counts.get(number, 0) for number, name in enumerate(AGE_BUCKETS)}
    named[AGE_BUCKETS[0]] += counts.get(None, 0)
    return named


async def _rows(
    connection: AsyncConnection[tuple[Any, ...]], sql: str, company: Company | None
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(sql, [company])).fetchall()
