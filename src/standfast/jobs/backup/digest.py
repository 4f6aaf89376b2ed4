"""What a database holds of each company, counted and hashed by the server itself.

Invariant: equal rows give an equal digest in whatever order they lie; a row that is changed, moved to another company,
type or id, or that has swapped its value with another's, gives another one. Digests of unlike methods are never
compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from standfast.errors import BackupDamaged
from standfast.jobs.backup.manifest import CompanyContent, Manifest
from standfast.jobs.backup.tables import Column, Table, Tables, our_tables

DIGEST_METHOD = "pg-hash64-1"
_SHOWN = 5
# Each column's hash is the seed of the next one's, so that what stands beside what matters; a mere sum of the columns'
# hashes would not notice two rows that swapped their values.
_HASHED = {
    "whatsapp_auth": ("created_at", "updated_at", "creds", "company_id"),
    "whatsapp_keys": ("created_at", "updated_at", "expires_at", "value", "key_type", "key_id", "company_id"),
}
_KEYS = """
select company_id::text collate "C", coalesce(key_type::text, '') collate "C", count(*), sum({hash})::text
from {table} group by 1, 2
"""
_AUTH = 'select company_id::text collate "C", count(*), sum({hash})::text from {table} group by 1'
_WRITERS = "select company_id::text, epoch, sequence from {table}"
_COUNT = "select count(*) from {table}"
# Workers of the server's would take what the dump beside this needs; rows that a policy hides must not go uncounted.
_SETTINGS = "set local jit = off; set local max_parallel_workers_per_gather = 0; set local row_security = off"


@dataclass(frozen=True, slots=True)
class TakenContent:
    """As a manifest holds it. `tables`: rows by table."""

    companies: Mapping[str, CompanyContent]
    tables: Mapping[str, int]
    digest: str
    method: str = DIGEST_METHOD

    @property
    def rows(self) -> int:
        """Creds and keys."""
        return sum(one.creds + sum(one.keys.values()) for one in self.companies.values())


@dataclass(slots=True)
class _Company:
    creds: bool = False
    keys: dict[str, int] = field(default_factory=dict)
    sums: list[str] = field(default_factory=list)
    epoch: int = 0
    sequence: int = 0


async def take_content(
    connection: AsyncConnection[tuple[Any, ...]], tables: Tables | None = None
) -> TakenContent:
    """Read everything once, in the transaction that `connection` is in (open one that is repeatable read). Takes a
    second per two million keys; the caller sets the deadline."""
    tables = tables or await our_tables(connection)
    for setting in _SETTINGS.split(";"):
        await connection.execute(setting.strip().encode())
    companies: dict[str, _Company] = {}
    counts = {table.name: 0 for table in tables.tables}
    for name, add in (("whatsapp_auth", _add_auth), ("whatsapp_keys", _add_keys)):
        table = tables.get(name)
        if table is not None:
            query = _AUTH if name == "whatsapp_auth" else _KEYS
            hashed = _hash(name, tables.columns[name])
            rows = await _rows(connection, query.format(table=table.quoted, hash=hashed))
            counts[name] = sum(add(companies, row) for row in rows)
    for table in tables.tables:
        await _read_own(connection, table, companies, counts)
    return _content(companies, counts)


def differences(manifest: Manifest, found: TakenContent) -> list[str]:
    """In words, company by company, cut after some; empty: everything is as the manifest says. `BackupDamaged` where
    its digests were made by another method."""
    check_method(manifest.digest_method)
    return _cut(_told(manifest, found))


def check_method(method: str) -> None:
    """`BackupDamaged` where digests of `method` cannot be compared with ours."""
    if method != DIGEST_METHOD:
        raise BackupDamaged(
            f"its digests are of the method {method!r}, and this version compares {DIGEST_METHOD!r}",
            next_step="Use the version of Standfast that made the backup, or a later one.",
        )


def _told(manifest: Manifest, found: TakenContent) -> Iterator[str]:
    for company in sorted(manifest.companies.keys() | found.companies.keys()):
        expected, got = manifest.companies.get(company), found.companies.get(company)
        if expected is None or got is None:
            yield f"{company} is {'missing' if got is None else 'not in the manifest'}"
        elif expected.creds != got.creds:
            yield f"{company} has {'creds' if got.creds else 'no creds'}"
        elif expected.keys != got.keys:
            yield f"{company} has {sum(got.keys.values()):,} keys instead of {sum(expected.keys.values()):,}"
        elif expected.digest != got.digest:
            yield f"{company} has other contents in the same number of rows"
    for table, count in manifest.tables.items():
        if found.tables.get(table) != count:
            yield f"{table} has {found.tables.get(table, 0):,} rows instead of {count:,}"


def _cut(told: Iterator[str]) -> list[str]:
    every = list(told)
    return every if len(every) <= _SHOWN else [*every[:_SHOWN], f"and {len(every) - _SHOWN} more"]


def _hash(table: str, columns: Mapping[str, Column]) -> str:
    seed = "0"
    for name in _HASHED[table]:
        if name in columns:
            seed = _column_hash(name, columns[name], seed)
    return seed


def _column_hash(name: str, column: Column, seed: str) -> str:
    if column.type.startswith("timestamp"):
        # The zone of whoever asks must not matter; a time without one is taken as it stands.
        value = f"{name} at time zone 'UTC'" if column.type.endswith("with time zone") else name
        value = value if column.not_null else f"coalesce({value}, '-infinity'::timestamp)"
        return f"timestamp_hash_extended({value}, {seed})"
    if column.type == "jsonb":
        # As text it would take PostgreSQL as long again as the dump beside it takes to write it.
        value = name if column.not_null else f"coalesce({name}, '\"standfast: null\"'::jsonb)"
        return f"jsonb_hash_extended({value}, {seed})"
    value = f"{name}::text" if column.not_null else f"coalesce({name}::text, 'standfast: null')"
    return f'hashtextextended({value} collate "C", {seed})'


def _add_auth(companies: dict[str, _Company], row: tuple[Any, ...]) -> int:
    name, count, total = row
    company = companies.setdefault(name, _Company())
    company.creds = True
    company.sums.append(f"auth {count} {total}")
    return int(count)


def _add_keys(companies: dict[str, _Company], row: tuple[Any, ...]) -> int:
    name, key_type, count, total = row
    company = companies.setdefault(name, _Company())
    company.keys[key_type] = count
    company.sums.append(f"key {key_type} {count} {total}")
    return int(count)


async def _read_own(
    connection: AsyncConnection[tuple[Any, ...]],
    table: Table,
    companies: dict[str, _Company],
    counts: dict[str, int],
) -> None:
    if table.name == "standfast_writers":
        rows = await _rows(connection, _WRITERS.format(table=table.quoted))
        counts[table.name] = len(rows)
        for name, epoch, sequence in rows:
            if name in companies:
                companies[name].epoch, companies[name].sequence = epoch, sequence
    elif table.name.startswith("standfast_"):
        ((counts[table.name],),) = await _rows(connection, _COUNT.format(table=table.quoted))


def _content(companies: dict[str, _Company], counts: dict[str, int]) -> TakenContent:
    found = {
        name: CompanyContent(
            creds=company.creds,
            keys=dict(sorted(company.keys.items())),
            digest=_sha256(sorted(company.sums)),
            epoch=company.epoch,
            sequence=company.sequence,
        )
        for name, company in sorted(companies.items())
    }
    return TakenContent(found, counts, _sha256(f"{name} {one.digest}" for name, one in sorted(found.items())))


def _sha256(lines: Any) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


async def _rows(connection: AsyncConnection[tuple[Any, ...]], query: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode())).fetchall()
