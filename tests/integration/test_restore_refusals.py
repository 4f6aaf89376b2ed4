"""Restores that must not be, or must be in odd surroundings: nothing is half done, and it says why."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import psycopg
import pyrage
import pytest

from standfast.authstate.company import Company
from standfast.errors import BackupDamaged, CompanyUnknown, RestoreRefused, SettingsError, UsageError
from standfast.jobs.backup.catalogue import read_manifest
from standfast.postgres.migrations import migrate
from standfast.postgres.options import DatabaseOptions
from standfast.postgres.pool import Database
from standfast.postgres.store import PostgresAuthStore
from standfast.settings import Settings
from standfast.vault import kept_change
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
from tests.integration.services import settings_of

LEGACY = """
create schema bots;
create table bots.whatsapp_auth (id serial primary key, company_id varchar(80) unique not null, creds text not null,
    created_at timestamp, updated_at timestamp);
create table bots.whatsapp_keys (id serial primary key, company_id varchar(80) not null, key_type varchar(80) not null,
    key_id varchar(200) not null, value text not null, unique (company_id, key_type, key_id));
alter database {name} set search_path = bots, public;
"""


@pytest.fixture
def settings(state: Path, database_options: DatabaseOptions) -> Settings:
    return settings_of(state, database_options)


async def test_a_damaged_backup_restores_nothing(
    settings: Settings, database: Database, store: PostgresAuthStore
) -> None:
    """A flipped byte at the end, a truncated file, a manifest of another one: the database is as it was, and no
    unfinished restore is left."""
    await fill(store)
    name = await backed_up(settings, database)
    await store.set_keys(ACME, {"session": {"later": b'"s2"'}})
    before = values(await store.snapshot(ACME))
    folder = settings.backup_directory / name
    content = folder / read_manifest(folder / "manifest.json").content.file
    good = content.read_bytes()
    for bad in (good[:-3] + bytes([good[-3] ^ 1]) + good[-2:], good[: len(good) // 2], b""):
        content.write_bytes(bad)
        with pytest.raises(BackupDamaged):
            await restored(settings)
    content.write_bytes(good)
    manifest = read_manifest(folder / "manifest.json")
    manifest.companies["acme"].keys["session"] += 1
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(BackupDamaged, match="keys of acme"):
        await restored(settings)
    manifest.companies["bolt"] = manifest.companies.pop("acme")
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(BackupDamaged, match="manifest"):
        await restored(settings)
    assert values(await store.snapshot(ACME)) == before
    assert not (settings.state_dir / "restore.json").exists()


async def test_what_a_later_version_made_is_refused(
    settings: Settings, database_options: DatabaseOptions, database: Database, store: PostgresAuthStore
) -> None:
    """Be it the backup or the database."""
    await fill(store)
    name = await backed_up(settings, database)
    await store.set_keys(ACME, {"session": {"later": b'"s2"'}})
    path = settings.backup_directory / name / "manifest.json"
    manifest = read_manifest(path)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, schema_version=9_999)))
    with pytest.raises(RestoreRefused, match="9999"):
        await restored(settings)
    path.write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(CompanyUnknown, match="nobody"):
        await planned(settings, companies=frozenset({"nobody"}))
    with pytest.raises(UsageError, match="password"):
        await planned(settings, to="postgresql://me:secret@nowhere/x")
    latest = "(select max(version) from standfast_migrations)"
    said(
        database_options,
        f"update standfast_migrations set version = 9999, breaks_below = 9999 where version = {latest} returning 1",
    )
    with pytest.raises(Exception, match="newer"):
        await restored(settings)


async def test_an_encrypted_backup_needs_its_identity(
    state: Path,
    database_options: DatabaseOptions,
    database: Database,
    store: PostgresAuthStore,
    tmp_path: Path,
) -> None:
    """Without it nothing is done; with it the restore is as any other."""
    identity = pyrage.x25519.Identity.generate()
    file = tmp_path / "identity"
    file.write_text(str(identity))
    file.chmod(0o600)
    recipients = {"backup_recipients": str(identity.to_public())}
    await fill(store)
    await backed_up(settings_of(state, database_options, **recipients), database)
    lose(database_options)
    with pytest.raises(SettingsError):
        await restored(settings_of(state, database_options, **recipients))
    await restored(settings_of(state, database_options, **recipients, backup_identity_file=file))
    assert values(await store.snapshot(ACME)) == meant(KEPT_WHEN_ROLLED_BACK)


async def test_tables_of_a_bot_are_restored_as_they_are(
    state: Path, bare_database_options: DatabaseOptions, bare_database: Database
) -> None:
    """Text columns, serial ids, another schema, times without a zone or none: out of the backup and into the same."""
    with psycopg.connect(bare_database_options.to_conninfo(), autocommit=True) as connection:
        connection.execute(LEGACY.format(name=bare_database_options.dbname).encode())
    settings = settings_of(state, bare_database_options)
    async with Database(bare_database_options) as database:
        await migrate(database)
        store = PostgresAuthStore(database)
        await fill(store)
        await backed_up(settings, database)
        await store.set_keys(ACME, {"session": {"later": b'"s2"'}})
        await restored(settings)
        assert values(await store.snapshot(ACME)) == meant(KEPT_WHEN_ROLLED_BACK)
        assert said(bare_database_options, "select count(*) from bots.whatsapp_keys") == [(6,)]


async def test_a_state_that_cannot_be_read_is_kept_all_the_same(
    settings: Settings, database_options: DatabaseOptions, database: Database, store: PostgresAuthStore
) -> None:
    """Damaged creds are why one restores: they are no obstacle, and lie in the archive as a file."""
    await fill(store)
    await fill(store, BOLT)
    await backed_up(settings, database)
    damage = """update whatsapp_auth set creds = '{"broken": true}' where company_id = 'acme' returning 1"""
    said(database_options, damage)
    said(database_options, "delete from whatsapp_auth where company_id = 'bolt' returning 1")
    report = await restored(settings)
    assert {one.company: one.action for one in report.companies} == {
        "acme": "unchanged",
        "bolt": "rolled back",
    }
    found = await store.snapshot(ACME)
    assert found is not None
    assert json.loads(found.creds) == json.loads(CREDS)
    broken, orphans = (kept_change.read(Path(one.kept or "")) for one in report.companies)
    assert (broken[0], json.loads(broken[1].creds or b"")) == (ACME, {"broken": True})
    assert (orphans[0], orphans[1].creds, orphans[1].key_count) == (BOLT, None, 10)


async def test_an_undone_cleanup_brings_no_ratchet_back(
    settings: Settings, database_options: DatabaseOptions, database: Database, store: PostgresAuthStore
) -> None:
    """What cleanup had taken out before is of the past that was given up."""
    await fill(store)
    await backed_up(settings, database)
    await store.set_keys(ACME, {"session": {"later": b'"s2"'}})
    said(
        database_options,
        "with run as (insert into standfast_cleanups (run, node, node_name, policy, retention_days)"
        " values ('r', gen_random_uuid(), 'one', 'safe', 30) returning run)"
        " insert into standfast_trash (run, company_id, key_type, key_id, value)"
        " select 'r', 'acme', t, 'x', '1' from unnest(array['session', 'tctoken']) t returning 1",
    )
    await restored(settings)
    assert said(database_options, "select key_type from standfast_trash") == [("tctoken",)]
    assert (
        set(KEYS["session"]) & set((values(await store.snapshot(Company("acme")))).get("session", {}))
        == set()
    )
