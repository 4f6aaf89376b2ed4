"""What tests of restores share: a company with keys of every kind, a lost database, a restore without questions."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg

from standfast.alert import LoggedAlerts
from standfast.authstate.company import Company
from standfast.jobs.backup.run import run_backup
from standfast.jobs.context import JobContext
from standfast.jobs.restore.plan import Plan, Wish
from standfast.jobs.restore.restore import RestoreReport
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore, Snapshot
from standfast.service.restore_run import Asked, restore_backup
from standfast.settings import Settings
from tests.support import made_up_creds

ACME, BOLT = Company("acme"), Company("bolt")
ME = {"id": "79990000001:5@s.whatsapp.net", "lid": "111222333:5@lid"}
GROUP = "1203630@g.us"
OWN, THEIRS = f"{GROUP}::79990000001::5", f"{GROUP}::79990000002::0"
CREDS = made_up_creds(me=ME, account={}, nextPreKeyId=40, firstUnuploadedPreKeyId=40)
KEYS = {
    "pre-key": {"1": b'{"a":1}', "39": b'{"a":39}'},
    "session": {"79990000002.0": b'"s1"', "tab\\t": b'"line\\nbreak \\\\ back"'},
    "sender-key": {OWN: b'"own"', THEIRS: b'"theirs"'},
    "sender-key-memory": {GROUP: b'{"x":true}'},
    "lid-mapping": {"79990000002": b'"444"', "444_reverse": b'"79990000002"'},
    "standfast-taken": {"taken": b'["x"]'},
}
KEPT_WHEN_ROLLED_BACK = {
    "pre-key": KEYS["pre-key"],
    "sender-key": {THEIRS: b'"theirs"'},
    "lid-mapping": KEYS["lid-mapping"],
    "standfast-taken": KEYS["standfast-taken"],
}


async def fill(store: PostgresAuthStore, company: Company = ACME, creds: bytes = CREDS) -> None:
    await store.install(company, creds, KEYS)


async def backed_up(settings: Settings, database: Database) -> str:
    """A new backup's name."""
    context = JobContext(settings, database, LoggedAlerts(), str(uuid.uuid4()), "one")
    return (await run_backup(context)).name


def lose(options: DatabaseOptions) -> None:
    """All tables go, as with a server that was lost and set up anew."""
    with psycopg.connect(options.to_conninfo(), autocommit=True) as connection:
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")


def said(options: DatabaseOptions, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(options.to_conninfo(), autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def values(found: Snapshot | None) -> dict[str, dict[str, Any]]:
    assert found is not None
    return {
        key_type: {name: json.loads(value) for name, value in ids.items()}
        for key_type, ids in found.keys.items()
    }


def meant(keys: dict[str, dict[str, bytes]]) -> dict[str, dict[str, Any]]:
    return values(Snapshot(b"", keys))


async def restored(
    settings: Settings, name: str = "latest", to: str | None = None, **wish: Any
) -> RestoreReport:
    """Restore whatever the plan says."""
    plans: list[Plan] = []

    def agree(plan: Plan) -> bool:
        plans.append(plan)
        return True

    report = await restore_backup(settings, Asked(name, Wish(**wish), to), agree)
    assert report is not None, f"the plan had nothing to do: {plans}"
    return report


async def planned(settings: Settings, name: str = "latest", to: str | None = None, **wish: Any) -> Plan:
    """The plan, and nothing done."""
    plans: list[Plan] = []

    def note(plan: Plan) -> bool:
        plans.append(plan)
        return False

    await restore_backup(settings, Asked(name, Wish(**wish), to), note)
    return plans[0]
