"""Restores into the settings' database: real backups, real PostgreSQL, a real vault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import psycopg
import pytest

from standfast.authstate.multifile import import_folder
from standfast.errors import RestoreRefused
from standfast.jobs.restore.from_backup import BackupSource
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.service.offline import local_alerts
from standfast.settings import Settings
from tests.integration.restoring import (
    ACME,
    BOLT,
    CREDS,
    KEPT_WHEN_ROLLED_BACK,
    KEYS,
    backed_up,
    fill,
    lose,
    meant,
    planned,
    restored,
    said,
    values,
)
from tests.integration.services import running, settings_of
from tests.support import made_up_creds

IDENTITY = "select id::text from standfast_identity"


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options)


async def test_a_lost_database_is_had_back_without_ratchets(
    settings: Settings, database_options: DatabaseOptions, database: Database, store: PostgresAuthStore
) -> None:
    """From nothing but the backup: everything that may be had back, the database's identity, who is to be connected;
    no session and no sender key of ours, and no pre-key id twice. Operators are told, and keys without creds named."""
    await fill(store)
    said(database_options, "insert into standfast_sessions (company_id) values ('acme') returning 1")
    said(
        database_options,
        "insert into whatsapp_keys (company_id, key_type, key_id, value) "
        "values ('bolt', 'session', '1', '1') returning 1",
    )
    await backed_up(settings, database)
    before = said(database_options, IDENTITY)
    lose(database_options)
    plan = await planned(settings)
    assert plan.without_creds == ["bolt"]
    assert [(one.action, one.keys_now, one.keys_then) for one in plan.companies] == [("rolled back", 0, 10)]
    assert said(database_options, "select to_regclass('whatsapp_auth')") == [(None,)]
    report = await restored(settings)
    assert report.ok
    assert [one["name"] for one in local_alerts(settings, 60, open_only=False)] == ["restore_done"]
    now = await store.snapshot(ACME)
    assert values(now) == meant(KEPT_WHEN_ROLLED_BACK)
    assert now is not None
    assert json.loads(now.creds)["nextPreKeyId"] == 10_040
    assert {**json.loads(now.creds), "nextPreKeyId": 0, "firstUnuploadedPreKeyId": 0} == {
        **json.loads(CREDS),
        "nextPreKeyId": 0,
        "firstUnuploadedPreKeyId": 0,
    }
    assert said(database_options, IDENTITY) == before
    assert said(database_options, "select company_id, wanted from standfast_sessions") == [("acme", True)]
    assert not (settings.state_dir / "restore.json").exists()
    assert said(database_options, "select to_regclass('restoring_standfast_keys')") == [(None,)]


async def test_what_the_replica_knows_is_replayed(
    settings: Settings,
    state: Path,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
) -> None:
    """With the service stopped: writes after the backup are put back from the vault, those too that PostgreSQL never
    had; only who has our sender keys is asked anew."""
    await fill(store)
    async with running(state, database_options) as now:
        await now.in_state("online")
        await now.service.vault.open(ACME)
        await backed_up(settings, database)
        await now.service.vault.set_keys(ACME, {"session": {"later": b'"s2"'}})
    lose(database_options)
    plan = await planned(settings)
    assert [one.action for one in plan.companies] == ["replay"]
    report = await restored(settings)
    assert report.ok
    expected = {**KEYS, "session": {**KEYS["session"], "later": b'"s2"'}}
    del expected["sender-key-memory"]
    assert values(await store.snapshot(ACME)) == meant(expected)
    async with running(state, database_options) as now:
        await now.in_state("online")
        creds = await now.service.vault.open(ACME)
        assert json.loads(creds or b"") == json.loads(CREDS)
        assert await now.service.vault.get_keys(ACME, "session", ["later"]) == {"later": b'"s2"'}
        assert not now.alerts("fenced")


async def test_what_reaches_the_database_while_it_is_looked_at_is_not_the_same(
    settings: Settings,
    state: Path,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The journal is drained just after the contents were compared: they were the same then, and are not now."""
    await fill(store)
    async with running(state, database_options) as now:
        vault = now.service.vault
        await now.in_state("online")
        await vault.open(ACME)
        await backed_up(settings, database)
        with psycopg.connect(database_options.to_conninfo()) as held:
            held.execute("lock table whatsapp_keys in exclusive mode")
            await vault.set_keys(ACME, {"session": {"later": b'"s2"'}})

            async def drained(source: BackupSource, database: Database) -> frozenset[str]:
                same = await compare(source, database)
                held.rollback()
                await vault.held.drained(vault.held.adopt(ACME), 5)
                return same

            compare = BackupSource.same_in
            monkeypatch.setattr(BackupSource, "same_in", drained)
            plan = await planned(settings, replay=False)
        assert [one.action for one in plan.companies] == ["rolled back"]


async def test_the_local_replica_follows_what_was_restored(
    settings: Settings,
    state: Path,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
) -> None:
    """Asked for the backup's own state beside a running service: the replica is fetched anew, nothing of the former
    state comes back, and what was replaced lies in the archive, later writes included."""
    await fill(store)
    async with running(state, database_options) as now:
        vault = now.service.vault
        await now.in_state("online")
        await vault.open(ACME)
        await backed_up(settings, database)
        await vault.set_keys(ACME, {"session": {"later": b'"s2"'}})
        vault.release(ACME)
        report = await restored(settings, replay=False)
        assert [(one.action, one.error) for one in report.companies] == [("rolled back", None)]
        record = vault.replica.record(ACME)
        assert record is not None
        assert "session" not in vault.replica.everything(record.number).keys, (
            "an outage now would open the old one"
        )
        await vault.open(ACME)
        assert await vault.get_keys(ACME, "session", ["later", "79990000002.0"]) == {}
        await vault.set_keys(ACME, {"session": {"new": b'"s3"'}})
        vault.release(ACME)
    assert values(await store.snapshot(ACME)) == meant({**KEPT_WHEN_ROLLED_BACK, "session": {"new": b'"s3"'}})
    kept = import_folder(Path(report.companies[0].kept or ""))
    assert set(kept.keys["session"]) == {*KEYS["session"], "later"}
    assert "standfast-taken" in kept.keys


async def test_a_company_that_was_paired_anew_is_not_overwritten(
    settings: Settings, database: Database, store: PostgresAuthStore
) -> None:
    """Its identity of now is the one that WhatsApp knows: only by name is it given up. The others are restored."""
    await fill(store)
    await fill(store, BOLT)
    await backed_up(settings, database)
    newer = made_up_creds(b"\x09" * 32)
    await store.install(ACME, newer, {}, replace=True)
    await store.set_keys(BOLT, {"session": {"later": b'"s2"'}})
    plan = await planned(settings)
    assert {one.company: one.action for one in plan.companies} == {"acme": "refused", "bolt": "rolled back"}
    await restored(settings)
    found = await store.snapshot(ACME)
    assert found is not None
    assert json.loads(found.creds) == json.loads(newer)
    await restored(settings, companies=frozenset({ACME}), replace_identity=frozenset({ACME}))
    assert values(await store.snapshot(ACME)) == meant(KEPT_WHEN_ROLLED_BACK)


async def test_what_is_the_same_is_left_alone_and_what_was_never_moved_is_whole(
    settings: Settings, database_options: DatabaseOptions, database: Database, store: PostgresAuthStore
) -> None:
    """By digest; a row that somebody deleted by hand comes back, and as nothing was written since, so do ratchets."""
    await fill(store)
    await backed_up(settings, database)
    assert [one.action for one in (await planned(settings)).companies] == ["same"]
    said(database_options, "delete from whatsapp_keys where key_type = 'session' returning 1")
    await fill(store, BOLT)
    plan = await planned(settings)
    assert [one.action for one in plan.companies] == ["unchanged"]
    assert plan.left_alone == ["bolt"]
    await restored(settings)
    expected = {key_type: ids for key_type, ids in KEYS.items() if key_type != "sender-key-memory"}
    assert values(await store.snapshot(ACME)) == meant(expected)
    assert values(await store.snapshot(BOLT)) == meant(KEYS)


async def test_another_database_is_filled_only_where_it_lacks_the_company(
    settings: Settings,
    other_database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
) -> None:
    """Into an empty one, which stays a database of its own; a second time only companies that it lacks."""
    await fill(store)
    await fill(store, BOLT)
    await backed_up(settings, database)
    to = other_database_options.to_conninfo()
    own = said(other_database_options, IDENTITY)
    await restored(settings, to=to, companies=frozenset({BOLT}))
    assert said(other_database_options, "select company_id from whatsapp_auth") == [("bolt",)]
    assert said(other_database_options, IDENTITY) == own
    for named in (frozenset(), frozenset({BOLT})):
        with pytest.raises(RestoreRefused, match="already"):
            await planned(settings, to=to, companies=named)
    await restored(settings, to=to, companies=frozenset({ACME}))
    assert said(other_database_options, "select count(*) from whatsapp_auth") == [(2,)]


async def test_what_only_the_change_log_knows_is_put_in_place_without_ratchets(
    state: Path, database_options: DatabaseOptions, database: Database, store: PostgresAuthStore
) -> None:
    """Database and replica are lost, the segments are not: what came after the backup is had back, but as nobody knows
    whether it was the last, sessions are set up anew."""
    settings = settings_of(state, database_options, backup_recipients="none")
    await fill(store)
    async with running(state, database_options, backup_recipients="none") as now:
        await now.in_state("online")
        await now.service.vault.open(ACME)
        await backed_up(settings, database)
        later = {"session": {"later": b'"s2"'}, "lid-mapping": {"later": b'"1"'}}
        await now.service.vault.set_keys(ACME, later)
        now.service.vault.release(ACME)
    lose(database_options)
    shutil.rmtree(state / "vault")
    plan = await planned(settings)
    assert [one.action for one in plan.companies] == ["change log"]
    report = await restored(settings)
    assert report.ok
    mappings = {**KEYS["lid-mapping"], "later": b'"1"'}
    found = await store.snapshot(ACME)
    assert found is not None
    assert values(found) == meant({**KEPT_WHEN_ROLLED_BACK, "lid-mapping": mappings})
    assert json.loads(found.creds)["nextPreKeyId"] == 10_040
    await restored(settings, replay=False)
    assert values(await store.snapshot(ACME)) == meant(KEPT_WHEN_ROLLED_BACK)
