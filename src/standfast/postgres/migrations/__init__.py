"""Bringing a database to the schema that this version needs: `migrate`, and `migrate(dry_run=True)` to look first.

Invariant: all of it in one transaction, under one lock. It only adds: no table, column, index or row is removed
or changed in meaning. So an older version runs on a newer schema, unless that says that it cannot (`breaks_below`).
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection

from standfast.errors import DatabaseRejected, DatabaseUnavailable
from standfast.postgres.failures import is_transient, sqlstate
from standfast.postgres.migrations.adoption import adopt
from standfast.postgres.migrations.catalog import TABLES, inspect
from standfast.postgres.migrations.ledger import NUMBERED, Numbered, applied_versions, record
from standfast.postgres.migrations.plan import MigrationPlan, Notice, Step
from standfast.postgres.pool import Database
from standfast.postgres.retry import retried

__all__ = ["MigrationPlan", "Notice", "Step", "migrate"]

_LOCK = 0x5374616E64666173  # "Standfas": one number that all who migrate agree on
_LOCK_TIMEOUT_S = 15.0
_TIMEOUT_S = 120.0
_IDENTIFY = "update standfast_identity set id = $1::uuid"
_START_PATIENCE_S = 5.0


async def migrate(
    database: Database,
    *,
    dry_run: bool = False,
    lock_timeout_s: float = _LOCK_TIMEOUT_S,
    identity: str | None = None,
) -> MigrationPlan:
    """What had to be done, done (or, `dry_run`, only found out). Two at once are safe: the second waits and
    finds nothing left. `DatabaseRejected` names the table and column that cannot be adopted, before any change.
    `identity`: the one that the database is to have from its first moment on, for a restore."""

    async def attempt() -> MigrationPlan:
        async with database.transaction("migrate", _TIMEOUT_S) as connection:
            if dry_run:
                await connection.execute("set transaction read only")
            else:
                await connection.execute(f"set local lock_timeout = {int(lock_timeout_s * 1000)}")
                await connection.execute("select pg_advisory_xact_lock($1)", [_LOCK])
            plan = await _bring_up(connection, dry_run)
            if identity is not None and not dry_run:
                await connection.execute(_IDENTIFY, [identity])
            return plan

    try:
        return await retried(attempt, is_transient, budget_s=_START_PATIENCE_S, on_retry=lambda: None)
    except DatabaseUnavailable as error:
        if sqlstate(error) != "55P03":
            raise
        raise DatabaseUnavailable(
            f"another client held a lock that the migration needs for longer than {lock_timeout_s:g} s",
            next_step="Wait for the other migration, or end long transactions on whatsapp_* (pg_stat_activity).",
            cause="locked",
        ) from None


async def _bring_up(connection: AsyncConnection[tuple[Any, ...]], dry_run: bool) -> MigrationPlan:
    await _check_encoding(connection)
    missing = await _missing(connection)
    tables = await inspect(connection)
    # Also where the ledger knows it but somebody dropped a table since: it creates only what is not there.
    first = [NUMBERED[0]] if len(tables) < len(TABLES) or NUMBERED[0] in missing else []
    adoption = await adopt(connection, tables)
    later = [number for number in missing if number is not NUMBERED[0]]
    plan = MigrationPlan(
        steps=(*map(_step, first), *adoption.steps, *map(_step, later)), notices=adoption.notices
    )
    if dry_run:
        return plan
    for step in plan.steps:
        await connection.execute(step.sql, prepare=False)
    for number in missing:
        await record(connection, number)
    return plan


async def _missing(connection: AsyncConnection[tuple[Any, ...]]) -> list[Numbered]:
    applied = await applied_versions(connection)
    known = NUMBERED[-1].version
    if any(one.breaks_below > known for one in applied.values()):
        raise DatabaseRejected(
            f"a newer Standfast migrated the database to version {max(applied)}, which this one (it knows {known}) "
            "cannot use",
            next_step="Update Standfast on this machine to the version that runs on the others.",
            cause="newer_schema",
        )
    for number in NUMBERED:
        if number.version in applied and applied[number.version].checksum != number.checksum:
            raise DatabaseRejected(
                f"migration {number.version} ({number.name}) was applied with other contents than this version's",
                next_step="Restore the database from before that migration, or use the Standfast that applied it.",
                cause="altered_migration",
            )
    return [number for number in NUMBERED if number.version not in applied]


async def _check_encoding(connection: AsyncConnection[tuple[Any, ...]]) -> None:
    row = await (await connection.execute("select current_setting('server_encoding')")).fetchone()
    if row is not None and row[0] != "UTF8":
        raise DatabaseRejected(
            f"the database is encoded in {row[0]}, which cannot hold every name and text",
            next_step="Create one with ENCODING 'UTF8' and move the tables there with pg_dump and pg_restore.",
            cause="encoding",
        )


def _step(number: Numbered) -> Step:
    return Step(f"migration {number.version}: {number.name}", number.sql, number.version)
